"""Tiny made-up training samples in the formats of ``models/training/cases.py``."""

import numpy as np

from networks import CROP_SHAPE


def ball_field(shape=(40, 30, 26), centres=((12, 14, 12), (26, 16, 13)), radius=4.5):
    """A field with two round 'vertebrae' L4 and L3 in water; instances count from T1."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    instance = np.zeros(shape, np.uint8)
    for k, c in enumerate(centres):
        instance[np.linalg.norm(grid - np.array(c), axis=-1) < radius] = 16 - k
    hu = np.where(instance > 0, 400, 40).astype(np.int16)
    labels = np.where(instance > 0, instance - 9, 0).astype(np.uint8)
    rows = np.zeros((22, 3), np.float32)
    rows[15], rows[14] = centres
    return {
        "hu": hu,
        "labels": labels,
        "instance": instance,
        "body": (instance > 0).astype(np.uint8) * 255,
        "centres": rows,
    }


def crop_file(count=6):
    """Crops of one file, every other one fractured at the upper plate."""
    rng = np.random.default_rng(0)
    hu = rng.normal(50, 20, (count, *CROP_SHAPE)).astype(np.int16)
    masks = np.zeros((count, *CROP_SHAPE), np.uint8)
    masks[:, 14:42, 10:50, 8:24] = 3
    masks[::2, 36:40, 10:30, 8:24] |= 4
    evidence = np.zeros((count, 4), np.uint8)
    evidence[::2, 0] = 1
    kind = np.where(np.arange(count) % 2 == 0, 2, 0).astype(np.uint8)
    zero = np.zeros(count, np.uint8)
    return {"hu": hu, "masks": masks, "evidence": evidence, "type": kind, "old": zero, "mimic": zero}
