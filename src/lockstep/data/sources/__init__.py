"""Where data sets come from: digits by name, image folders, torchvision, Hugging Face, a user's function.

Two tables list them: `DATA_SOURCES` in digit_sets.py, and `SOURCES` in data/image_sets.py.
"""
