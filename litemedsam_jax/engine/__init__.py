"""Machine code: how the network is compiled, stored, loaded and run on a device."""
