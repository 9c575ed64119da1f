"""What a mask measures: volume, diameters, place and intensities of each label."""
