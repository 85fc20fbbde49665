"""A memory of single-port banks behind several ports."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells, sram_name

ADDRESS_BITS = 16
"""Width of a word address in every command."""


class MemoryPort(wiring.Signature):
    """One access a cycle, seen from the side that asks.

    An access with `valid` and `ready` high is done; a read's word is at `read_data` in the next
    cycle, with `read_valid` high, and not longer. `valid` may be withdrawn.

    Args:
        word_bits: Bits of a word.
    """

    def __init__(self, word_bits: int) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "ready": In(1),
                "write": Out(1),
                "address": Out(ADDRESS_BITS),
                "write_data": Out(word_bits),
                "mask": Out(word_bits // 8),
                "read_data": In(word_bits),
                "read_valid": In(1),
            }
        )


class BankedMemory(wiring.Component):
    """Interleaved banks; each serves one port a cycle, the first that asks.

    Words that follow one another lie in banks that do: two engines that each take a word a cycle in
    order meet once, one waits a cycle, and from then on they follow each other from bank to bank.
    One that takes a word every second cycle can hold another to its pace.

    Ports: `port_0`, `port_1` and so on, in the order of priority. A port that is not served waits.

    Args:
        words: Capacity in words, a multiple of `banks`.
        word_bits: Bits of a word.
        banks: Banks, a power of two.
        ports: Ports.
        cells: Makes the SRAMs.
    """

    def __init__(self, words: int, word_bits: int, banks: int, ports: int, cells: Cells) -> None:
        self.bank_words = words // banks
        self.word_bits = word_bits
        self.banks = banks
        self.count = ports
        self.cells = cells
        super().__init__({f"port_{i}": In(MemoryPort(word_bits)) for i in range(ports)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place_bits = (self.bank_words - 1).bit_length()
        bank_bits = (self.banks - 1).bit_length()
        ports = [getattr(self, f"port_{i}") for i in range(self.count)]
        banks = [port.address[:bank_bits] for port in ports]
        places = [port.address[bank_bits : bank_bits + place_bits] for port in ports]
        words = []
        grants: list[list[Value]] = []
        for bank in range(self.banks):
            asks = [port.valid & (of == bank) for port, of in zip(ports, banks, strict=True)]
            granted = [ask & ~_any(asks[:i]) for i, ask in enumerate(asks)]
            chosen = Signal(self.count, name=f"grant_{bank}")
            m.d.comb += chosen.eq(Cat(*granted))
            grants.append(list(chosen))
            word = Signal(self.word_bits, name=f"word_{bank}")
            words.append(word)
            m.submodules[f"select_{bank}"] = select = BankSelect(self.word_bits, self.count)
            m.d.comb += select.chosen.eq(chosen)
            for i, port in enumerate(ports):
                m.d.comb += [
                    getattr(select, f"data_{i}").eq(port.write_data),
                    getattr(select, f"mask_{i}").eq(port.mask),
                ]
            m.submodules[f"bank_{bank}"] = self.cells(
                sram_name(self.bank_words, self.word_bits),
                {
                    "enable": chosen.any(),
                    "write": _one_of(chosen, [port.write for port in ports]),
                    "address": _one_of(chosen, places),
                    "write_data": select.data,
                    "mask": select.mask,
                },
                {"read_data": word},
            )
        for i, port in enumerate(ports):
            bank = Signal(range(self.banks), name=f"read_bank_{i}")
            served = Signal(name=f"served_{i}")
            m.d.comb += [
                port.ready.eq(_any([grants[b][i] for b in range(self.banks)])),
                port.read_valid.eq(served),
                port.read_data.eq(Array(words)[bank]),
            ]
            m.d.sync += [served.eq(port.valid & port.ready & ~port.write), bank.eq(banks[i])]
        return m


class BankSelect(wiring.Component):
    """What the chosen port writes to a bank; zeros where none is chosen. Combinational.

    Every bank has the same one, which depends on nothing but the width of a word, so that it is
    mapped to cells once.

    Args:
        word_bits: Bits of a word.
        ports: Ports of the memory.
    """

    def __init__(self, word_bits: int, ports: int) -> None:
        self.ports = range(ports)
        super().__init__(
            {
                "chosen": In(ports),
                **{f"data_{i}": In(word_bits) for i in self.ports},
                **{f"mask_{i}": In(word_bits // 8) for i in self.ports},
                "data": Out(word_bits),
                "mask": Out(word_bits // 8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name in ("data", "mask"):
            values = [getattr(self, f"{name}_{i}") for i in self.ports]
            m.d.comb += getattr(self, name).eq(_one_of(self.chosen, values))
        return m


def _any(values: list[Value]) -> Value:
    return Cat(*values).any() if values else Cat(0)[0] & 0


def _one_of(chosen: Signal, values: list[Value]) -> Value:
    """The value of the one bit of `chosen` that is high, as an or of ands."""
    total: Value = Mux(chosen[0], values[0], 0)
    for bit, value in zip(list(chosen)[1:], values[1:], strict=True):
        total = total | Mux(bit, value, 0)
    return total
