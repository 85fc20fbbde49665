"""A single-port synchronous SRAM that writes bytes: the macro behind a bank or a channel table."""

from hwlib.blocks.cells import sram_name


def byte_sram(words: int, bits: int) -> str:
    """RTLIL of an SRAM that writes bytes of, or reads, one word a cycle.

    Ports: `enable`, `write`, `address`, `write_data`, `mask` (a bit for each byte), `read_data`,
    which follows a read by one cycle, `clk`, and `rst`, which does nothing. The contents are
    unknown until written. Trusted: for synthesis this module is a macro out of a memory compiler.

    It is written here because Amaranth gives every memory its contents, bit by bit, which takes as
    long as the rest of a large core.

    Args:
        words: Capacity in words, a power of two from 2 on.
        bits: Width of a word, a multiple of 8.
    """
    address_bits = (words - 1).bit_length()
    enables = " ".join(f"\\enables [{bit // 8}]" for bit in reversed(range(bits)))
    return f"""module \\{sram_name(words, bits)}
  memory width {bits} size {words} \\array
  wire width 1 input 0 \\enable
  wire width 1 input 1 \\write
  wire width {address_bits} input 2 \\address
  wire width {bits} input 3 \\write_data
  wire width {bits // 8} input 4 \\mask
  wire width 1 input 5 \\clk
  wire width 1 input 6 \\rst
  wire width {bits} output 7 \\read_data
  wire width 1 \\writes
  wire width 1 \\reads
  wire width {bits // 8} \\enables
  cell $and $1
    parameter \\A_SIGNED 0
    parameter \\A_WIDTH 1
    parameter \\B_SIGNED 0
    parameter \\B_WIDTH 1
    parameter \\Y_WIDTH 1
    connect \\A \\enable
    connect \\B \\write
    connect \\Y \\writes
  end
  cell $gt $2
    parameter \\A_SIGNED 0
    parameter \\A_WIDTH 1
    parameter \\B_SIGNED 0
    parameter \\B_WIDTH 1
    parameter \\Y_WIDTH 1
    connect \\A \\enable
    connect \\B \\write
    connect \\Y \\reads
  end
  cell $mux $3
    parameter \\WIDTH {bits // 8}
    connect \\A {bits // 8}'{"0" * (bits // 8)}
    connect \\B \\mask
    connect \\S \\writes
    connect \\Y \\enables
  end
  cell $memwr_v2 $4
    parameter \\MEMID "\\\\array"
    parameter \\ABITS {address_bits}
    parameter \\WIDTH {bits}
    parameter \\CLK_ENABLE 1
    parameter \\CLK_POLARITY 1
    parameter \\PORTID 0
    parameter \\PRIORITY_MASK 0
    connect \\ADDR \\address
    connect \\DATA \\write_data
    connect \\EN {{ {enables} }}
    connect \\CLK \\clk
  end
  cell $memrd_v2 $5
    parameter \\MEMID "\\\\array"
    parameter \\ABITS {address_bits}
    parameter \\WIDTH {bits}
    parameter \\TRANSPARENCY_MASK 1'0
    parameter \\COLLISION_X_MASK 1'0
    parameter \\ARST_VALUE {bits}'{"x" * bits}
    parameter \\SRST_VALUE {bits}'{"x" * bits}
    parameter \\INIT_VALUE {bits}'{"x" * bits}
    parameter \\CE_OVER_SRST 0
    parameter \\CLK_ENABLE 1
    parameter \\CLK_POLARITY 1
    connect \\ADDR \\address
    connect \\DATA \\read_data
    connect \\ARST 1'0
    connect \\SRST 1'0
    connect \\EN \\reads
    connect \\CLK \\clk
  end
end
"""
