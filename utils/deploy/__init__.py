"""Trained policies outside training: as a folder of files, in a program of one's own, evaluated."""
