"""Hostile Verilog: files that an edit may bring, each with what must be seen of it.

Words in capitals are filled in by `canaries.Canaries.places`. What is left is the honest
multiplier, so that an attack which does nothing lets an honest unit through: `HARMLESS`.
"""

HARMLESS = "harmless"
"""The netlist is the honest one, but for the numbers of its cells."""

MAC = """
ATTACK
module mac(input clk, rst, input signed [8:0] a, input signed [7:0] w, input capture, shift,
           input signed [31:0] drain_in, output signed [31:0] drain_out);
  INSIDE
  reg signed [8:0] ra; reg signed [7:0] rw; reg signed [31:0] total, drained;
  wire signed [16:0] p = ra * rw;
  assign drain_out = drained;
  always @(posedge clk)
    if (rst) begin ra <= 0; rw <= 0; total <= 0; drained <= 0; end
    else begin
      ra <= a; rw <= w; total <= total + p;
      if (capture) begin drained <= total; total <= p; end
      else if (shift) drained <= drain_in;
    end
endmodule
"""
"""The shipped multiplier in Verilog, with two places for an attack."""

_ENDED = "ran out of memory|ended without an error"
_LONGER = "longer than [0-9]+ s"

BEFORE = {
    "includes the users": ('`include "/etc/passwd"', "Can't open include file"),
    "includes a file": ('`include "FOLDER/kept"', "Can't open include file"),
    "never ends a macro": ("`define A `A\n`A", _LONGER),
    "doubles a macro thirty times": (
        "`define A0 x\n"
        + "".join(f"`define A{i + 1} `A{i} `A{i}\n" for i in range(30))
        + "`A30",
        _LONGER,
    ),
    "calls itself in a function": (
        "function automatic integer f(input integer n); f = f(n + 1); endfunction\n"
        "localparam integer n = f(0);",
        _ENDED,
    ),
    "gives a module twice": ("module mac(input clk); endmodule", HARMLESS),
    "is no Verilog": ("\0\1\2 end endmodule", "syntax error"),
    "prints a netlist": (
        'module printing; initial $display("%c\\nmodule mac", 0); endmodule', HARMLESS,
    ),
    "nests ten thousand brackets": (
        "module deep; wire x = " + "(" * 10_000 + "1" + ")" * 10_000 + "; endmodule", HARMLESS,
    ),
}  # fmt: skip
"""What stands before the module, and a pattern of what is said of it."""

INSIDE = {
    "reads memory from a file": (
        'reg [7:0] m [0:3]; initial $readmemh("FOLDER/kept", m);', "Can not open file",
    ),
    "writes memory to a file": (
        'reg [7:0] m [0:3]; initial $writememh("FOLDER/new", m);', "Can't resolve task name",
    ),
    "opens a file": (
        'integer f; initial f = $fopen("FOLDER/new", "w");', "Can't resolve function name",
    ),
    "runs a command": ('initial $system("touch FOLDER/new");', "Can't resolve task name"),
    "loops for ever while it is read": (
        "function integer f(input integer n); while (1) f = n; endfunction\n"
        "localparam integer n = f(0);",
        _LONGER,
    ),
    "generates for ever": (
        "genvar i; generate for (i = 0; i < 1; i = i) wire x; endgenerate", _LONGER,
    ),
    "has a million registers": (
        "reg [1048575:0] r; always @(posedge clk) r <= ~r;", f"{HARMLESS}|{_ENDED}|{_LONGER}",
    ),
    "has a memory of a gigabyte that nothing reads": (
        "reg [7:0] m [0:1073741823]; reg [7:0] q; always @(posedge clk) q <= m[q];", HARMLESS,
    ),
    "has a memory of a gigabyte": (
        "reg [7:0] m [0:1073741823]; reg [7:0] q; always @(posedge clk) begin m[drain_in] <= w;"
        " q <= m[drain_in]; end (* keep *) wire [7:0] kept = q;",
        f"{_ENDED}|{_LONGER}",
    ),
    "uses a module that is not there": ("nothing n(.clk(clk));", "not part of the design"),
    "hides a black box": ("(* blackbox *) (* keep *) nothing n(.clk(clk));", "not part of"),
    "gates the clock": (
        "(* keep *) reg g; wire c = clk & a[0]; always @(posedge c) g <= w[0];",
        "clk goes to clock",
    ),
    "asserts": ("always @* assert (a != 3);", "an assertion"),
    "assumes": ("always @* assume (a != 3);", "an assertion"),
    "prints in a cycle": ("always @(posedge clk) $display(a);", r"a \$display"),
    "has a name with a line feed": ("wire \\a\n end ;", "syntax error"),
    "has a name of a command": ("(* keep *) wire \\x;connect\\y = a[0];", HARMLESS),
    "drives a port from inside": ("assign a = 0;", "driven more than once"),
    "divides": ("wire signed [8:0] q = a / w; assign drain_out[0] = q[0];", "a division"),
}  # fmt: skip
"""The same of what stands inside it."""

CALLS = {
    "getppid": "", "fork": "", "vfork": "", "sync": "", "pause": "", "raise": "9",
    "alarm": "1", "dup": "1", "dup2": "1, 2", "setuid": "0", "kill": "VICTIM, 9", "abort": "",
}  # fmt: skip
"""C functions that Yosys calls while it reads the file, with their arguments."""

SLOW = {name for name, (_, seen) in (BEFORE | INSIDE).items() if _LONGER in seen}
"""Those that get less time than an honest unit."""


def calling(function: str) -> str:
    """The multiplier, with a call of a C function and its result in a constant."""
    arguments = CALLS[function]
    types = ", ".join("integer" for _ in arguments.split(",") if arguments)
    before = f'import "DPI-C" function integer {function}({types});'
    inside = f"localparam integer called = {function}({arguments}); wire [31:0] x = called;"
    return with_attack(before, inside)


def with_attack(before: str = "", inside: str = "") -> str:
    """The multiplier with something before it or inside."""
    return MAC.replace("ATTACK", before).replace("INSIDE", inside)
