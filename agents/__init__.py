"""Who proposes designs."""
