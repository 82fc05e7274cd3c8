"""Figures: curves, confusion matrix, contact sheet, and the style that they share."""
