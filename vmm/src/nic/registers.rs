//! Registers of the igb family that the VMM itself touches or models (i210 datasheet §8).
