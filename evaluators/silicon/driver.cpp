// Drives the core that runs a whole model: its program, and a DRAM on the other side.
//
// The DRAM answers a request after a latency, one beat a cycle, with a gap after each burst. A stall
// pattern may be drawn from a seed: in each cycle a stream stands still with the given chance (in
// 1/256). A valid that is up stays up, as the streams' protocol asks.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>
#include "Vdut.h"
#include "verilated.h"
#include "verilated_syms.h"

// Verilator writes the double underscore of a port name as ___05F.
#define PORT(stream, signal) stream##___05F##signal

namespace {

struct Random {
    uint64_t state;
    bool stalls(uint32_t chance) {
        if (chance == 0) return false;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (state >> 32 & 0xff) < chance;
    }
};

constexpr int QUEUES = 4;
constexpr int SETTLING = 4;  // cycles after the last completion in which `busy` must have fallen

}  // namespace

struct Run {
    const uint64_t* commands;  // four words each, lowest first
    uint64_t command_count;
    uint64_t beats_to_read, beats_to_write;  // of the whole program
    uint8_t* dram;
    uint64_t dram_bytes;
    uint64_t* completed;  // cycle of each command's end, queue by queue: [4][command_count]
    uint64_t latency, burst_beats, gap;  // of the DRAM
    uint64_t seed;
    uint32_t stall_command, stall_read, stall_write;
    uint64_t reset_at;  // cycle of a reset in mid-stream; 0 for none
    uint64_t patience;  // cycles without any handshake or completion until the watchdog gives up
    // Signals that are looked at in windows of cycles, settled and before the next clock edge.
    const char* const* probe_scopes;
    const char* const* probe_names;
    const uint64_t* probe_widths;
    uint64_t probe_count, row_bytes;
    const uint64_t* windows;  // first cycle of each, ascending
    uint64_t window_count, window_cycles;
    uint8_t* probe_missing;  // [probe_count]
    uint8_t* samples;  // [window_count][window_cycles][row_bytes]: each probe in whole bytes
    // Results.
    uint64_t total_cycles, issued, done[QUEUES], beats_read, beats_written, stray;
    uint64_t wrong_busy;  // cycles in which `busy` was low too early, or 1 where it stayed high
    uint64_t sampled;  // cycles
};

namespace {

// A signal, or a part of one that Yosys has split by its drivers: where it is kept, and from which
// bit of the sample on it stands.
struct Probe {
    const uint8_t* at;
    size_t bits, low, whole;
    size_t sample;  // its first byte in a row of samples
};

void copy(const Probe& probe, uint8_t* row) {
    uint8_t* to = row + probe.sample;
    if (probe.bits == probe.whole) {
        std::memcpy(to, probe.at, (probe.bits + 7) / 8);
        return;
    }
    for (size_t bit = 0; bit < probe.bits; bit++)
        to[(probe.low + bit) / 8] |= (probe.at[bit / 8] >> bit % 8 & 1) << (probe.low + bit) % 8;
}

// Whether a variable is a signal or a part of it: Verilog escapes `a$1` and `a[15:8]`.
bool belongs(const std::string& variable, const std::string& signal) {
    return variable == signal || variable == "\\" + signal + " " ||
           variable.rfind("\\" + signal + "[", 0) == 0;
}

// Where the probed signals are kept. `probe_missing` is set for one that is not there; it gives 0, as
// bits do that nothing reads and that are therefore left out.
std::vector<Probe> find_probes(const VerilatedContext& context, Run* run) {
    std::vector<Probe> found;
    size_t sample = 0;
    for (uint64_t k = 0; k < run->probe_count; k++) {
        const VerilatedScope* scope = context.scopeFind(run->probe_scopes[k]);
        const std::string name = run->probe_names[k];
        const size_t width = run->probe_widths[k];
        size_t seen = 0;
        if (scope && scope->varsp()) {
            for (const auto& [known, signal] : *scope->varsp()) {
                const VerilatedRange* range = signal.range(0);
                const size_t low = range ? range->low() : 0;
                if (!belongs(known, name) || low >= width) continue;
                const size_t bits = std::min<size_t>(signal.entBits(), width - low);
                found.push_back({static_cast<const uint8_t*>(signal.datap()), bits, low, width, sample});
                seen += bits;
            }
        }
        run->probe_missing[k] = seen == 0;
        sample += (width + 7) / 8;
    }
    return found;
}

}  // namespace

// Returns 0 when the program ran to its end, 1 when the watchdog gave up, 2 when the core completed
// what it had not taken, or asked for more of the DRAM than its program does. So nothing that the
// watchdog takes for life goes on for ever.
extern "C" __attribute__((visibility("default"))) int dovetail_run_core(Run* run) {
    VerilatedContext context;
    auto dut = std::make_unique<Vdut>(&context);
    constexpr size_t beat_bytes = sizeof(dut->PORT(read_beats, payload));
    Random random{run->seed * 0x9e3779b97f4a7c15ull + 1};
    struct Beat {
        uint64_t address, ready;
    };
    std::deque<Beat> coming;
    uint64_t requested = 0;  // beats
    uint64_t link_free = 0;  // first cycle in which the DRAM can send another beat

    auto reset = [&] {
        dut->PORT(command, valid) = dut->PORT(read_beats, valid) = 0;
        dut->PORT(read_request, ready) = dut->PORT(write_beats, ready) = 0;
        dut->rst = 1;
        for (int i = 0; i < 2; i++) {
            dut->clk = 0;
            dut->eval();
            dut->clk = 1;
            dut->eval();
        }
        dut->rst = 0;
        coming.clear();
        requested = 0;
        run->issued = run->beats_read = run->beats_written = run->stray = run->wrong_busy = 0;
        for (auto& count : run->done) count = 0;
    };
    reset();
    const std::vector<Probe> probes = find_probes(context, run);
    uint64_t window = 0;
    uint8_t* sample = run->samples;

    uint64_t first = 0, cycle = 0, quiet = 0;
    bool command_up = false, beat_up = false;
    for (;; cycle++) {
        if (run->reset_at != 0 && cycle == run->reset_at) {
            reset();
            command_up = beat_up = false;
            link_free = cycle;
        }
        if (!command_up && run->issued < run->command_count && !random.stalls(run->stall_command)) {
            command_up = true;
            std::memcpy(&dut->PORT(command, payload), run->commands + 4 * run->issued, 32);
        }
        if (!beat_up && !coming.empty() && coming.front().ready <= cycle &&
            !random.stalls(run->stall_read)) {
            beat_up = true;
            uint64_t at = coming.front().address;
            if (at + beat_bytes <= run->dram_bytes)
                std::memcpy(&dut->PORT(read_beats, payload), run->dram + at, beat_bytes);
            else
                run->stray++;
        }
        dut->PORT(command, valid) = command_up;
        dut->PORT(read_beats, valid) = beat_up;
        dut->PORT(read_request, ready) = 1;
        dut->PORT(write_beats, ready) = !random.stalls(run->stall_write);
        dut->clk = 0;
        dut->eval();

        bool moved = false;
        uint64_t all = 0;
        for (int queue = 0; queue < QUEUES; queue++) {
            if (dut->completed >> queue & 1) {
                if (run->done[queue] < run->command_count)
                    run->completed[queue * run->command_count + run->done[queue]] = cycle - first;
                run->done[queue]++;
                moved = true;
            }
            all += run->done[queue];
        }
        if (all > run->issued) return 2;
        if (run->issued > all && !dut->busy) run->wrong_busy++;
        if (command_up && dut->PORT(command, ready)) {
            if (run->issued++ == 0) first = cycle;
            command_up = false;
            moved = true;
        }
        if (dut->PORT(read_request, valid)) {
            uint64_t address = dut->PORT(read_request, payload) & 0xffffffffu;
            uint64_t beats = dut->PORT(read_request, payload) >> 32;
            requested += beats;
            if (requested > run->beats_to_read) return 2;
            uint64_t ready = cycle + 1 + run->latency;
            if (ready < link_free) ready = link_free;
            for (uint64_t beat = 0; beat < beats; beat++) {
                if (beat != 0 && run->burst_beats != 0 && beat % run->burst_beats == 0)
                    ready += run->gap;
                coming.push_back({address + beat * beat_bytes, ready++});
            }
            link_free = ready;
            if (beats != 0) moved = true;
        }
        if (beat_up && dut->PORT(read_beats, ready)) {
            coming.pop_front();
            run->beats_read++;
            beat_up = false;
            moved = true;
        }
        if (dut->PORT(write_beats, valid) && dut->PORT(write_beats, ready)) {
            uint8_t beat[4 + beat_bytes];
            std::memcpy(beat, &dut->PORT(write_beats, payload), sizeof beat);
            uint32_t at;
            std::memcpy(&at, beat, 4);
            if (at + beat_bytes <= run->dram_bytes)
                std::memcpy(run->dram + at, beat + 4, beat_bytes);
            else
                run->stray++;
            if (++run->beats_written > run->beats_to_write) return 2;
            moved = true;
        }
        if (window < run->window_count && cycle - first >= run->windows[window]) {
            for (const Probe& probe : probes)
                copy(probe, sample);
            sample += run->row_bytes;
            run->sampled++;
            if (cycle - first + 1 == run->windows[window] + run->window_cycles) window++;
        }
        if (all == run->command_count) break;
        quiet = moved ? 0 : quiet + 1;
        if (quiet > run->patience) return 1;

        dut->clk = 1;
        dut->eval();
    }
    run->total_cycles = cycle - first + 1;
    for (int i = 0; i < SETTLING; i++) {
        dut->clk = 1;
        dut->eval();
        dut->clk = 0;
        dut->eval();
    }
    run->wrong_busy += dut->busy;
    dut->final();
    return 0;
}
