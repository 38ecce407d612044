"""What tells a proxy where the traffic goes: one file per brand."""
