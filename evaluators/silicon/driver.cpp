// Drives the accelerator's three streams and runs one whole program.
//
// A stall pattern is drawn from a seed: in each cycle a stream stands still with the given chance
// (in 1/256). A valid that is up stays up, as the streams' protocol asks.
#include <cstdint>
#include <cstring>
#include <memory>
#include "Vdut.h"
#include "verilated.h"

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

}  // namespace

struct Run {
    const uint64_t* commands;
    uint64_t command_count;
    const uint8_t* load;
    uint64_t load_beats;
    uint8_t* store;
    uint64_t store_beats;
    uint64_t* cycles;  // of each command
    uint64_t seed;
    uint32_t stall_command, stall_load, stall_store;
    uint64_t reset_at;  // cycle of a reset in mid-stream; 0 for none
    uint64_t patience;  // cycles without any handshake until the watchdog gives up
    // Results.
    uint64_t total_cycles, commands_done, loaded, stored, surplus;
};

// Returns 0 when the program ran to its end, 1 when the watchdog gave up.
extern "C" __attribute__((visibility("default"))) int dovetail_run(Run* run) {
    VerilatedContext context;
    auto dut = std::make_unique<Vdut>(&context);
    constexpr size_t beat_bytes = sizeof(dut->PORT(load, payload));
    static_assert(sizeof(dut->PORT(store, payload)) == beat_bytes, "both streams have one width");
    Random random{run->seed * 0x9e3779b97f4a7c15ull + 1};

    auto reset = [&] {
        dut->PORT(command, valid) = dut->PORT(load, valid) = dut->PORT(store, ready) = 0;
        dut->rst = 1;
        for (int i = 0; i < 2; i++) {
            dut->clk = 0;
            dut->eval();
            dut->clk = 1;
            dut->eval();
        }
        dut->rst = 0;
        run->commands_done = run->loaded = run->stored = run->surplus = 0;
    };
    reset();

    uint64_t issued = 0, begun = 0, first = 0, cycle = 0, quiet = 0;
    bool command_up = false, load_up = false;
    for (;; cycle++) {
        if (run->reset_at != 0 && cycle == run->reset_at) {
            reset();
            issued = 0;
            command_up = load_up = false;
        }
        if (!command_up && issued < run->command_count && !random.stalls(run->stall_command)) {
            command_up = true;
            dut->PORT(command, payload) = run->commands[issued];
        }
        if (!load_up && run->loaded < run->load_beats && !random.stalls(run->stall_load)) {
            load_up = true;
            std::memcpy(&dut->PORT(load, payload), run->load + run->loaded * beat_bytes, beat_bytes);
        }
        dut->PORT(command, valid) = command_up;
        dut->PORT(load, valid) = load_up;
        dut->PORT(store, ready) = !random.stalls(run->stall_store);
        dut->clk = 0;
        dut->eval();

        bool moved = false;
        if (dut->PORT(command, ready) && run->commands_done < issued) {
            run->cycles[run->commands_done++] = cycle - begun;
            moved = true;
        }
        if (run->commands_done == run->command_count && run->stored >= run->store_beats &&
            !dut->busy)
            break;
        if (command_up && dut->PORT(command, ready)) {
            if (issued++ == 0) first = cycle;
            begun = cycle;
            command_up = false;
            moved = true;
        }
        if (load_up && dut->PORT(load, ready)) {
            run->loaded++;
            load_up = false;
            moved = true;
        }
        if (dut->PORT(store, valid) && dut->PORT(store, ready)) {
            if (run->stored < run->store_beats) {
                std::memcpy(run->store + run->stored * beat_bytes, &dut->PORT(store, payload),
                            beat_bytes);
                run->stored++;
            } else {
                run->surplus++;
            }
            moved = true;
        }
        quiet = moved ? 0 : quiet + 1;
        if (quiet > run->patience) return 1;

        dut->clk = 1;
        dut->eval();
    }
    run->total_cycles = cycle - first;
    dut->final();
    return 0;
}
