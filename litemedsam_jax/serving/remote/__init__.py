"""The nnInteractive remote protocol, version 2: what 3D Slicer, napari and MITK speak."""
