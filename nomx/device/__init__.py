"""Devices: what brings frames in and takes them out, behind one interface (`nomx.device.base`)."""
