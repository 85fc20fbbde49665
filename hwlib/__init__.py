"""The accelerator: its knobs, commands, units, contracts and reference arithmetic."""
