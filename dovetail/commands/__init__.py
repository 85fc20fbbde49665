"""The commands of `dovetail`, room by room; `dovetail.cli` puts names to them."""
