"""From a plan to the target body: its plates, wall and lesions."""

import numpy as np

from . import lesions, plates, walls
from .anatomy import plates as plain_plates
from .bone import Body, plate_thickness
from .grid import Frame, chance


def _join(a, b):
    """Both changes of one plate together."""
    return plates.Plate(a.drop + b.drop, a.thick * b.thick, np.maximum(a.hurt, b.hurt))


class _Maker:
    """Collects the changes of one body; `born` shapes plates without a loss of height, `break_plates` with one."""

    def __init__(self, rng, plan, size):
        self.rng, self.plan, self.size = rng, plan, size
        self.top0, self.bottom0 = plain_plates(size)
        self.top, self.bottom = plates.whole(), plates.whole()
        self.lesions, self.on_wall, self.late = [], [], []
        self.corner = rng.uniform(0.8, 2.2)
        self.metal = []

    def born(self, top=0.0, bottom=0.0):
        """Change the undamaged plates by a drop in mm: how the vertebra grew, not what it lost."""
        self.top0, self.bottom0 = self.top0 - top, self.bottom0 + bottom

    def feature(self, name):
        """Add one imitator or side finding; a bridge to a neighbour is painted by `crop`, which has the neighbours."""
        rng, size, on = self.rng, self.size, self.on_wall.append
        strong = self.plan.kind == name
        if name == "waist":
            on(lambda w: walls.draw_in(rng, w, rng.uniform(2.0, 5.0)))
        elif name == "notch":
            on(lambda w: walls.notch(rng, w, rng.uniform(1.5, 4.5)))
        elif name == "spur":
            for _ in range(rng.integers(1, 3)):
                at = rng.uniform(0.1, 0.9) if chance(rng, 0.5) else rng.choice([0.12, 0.88])
                on(lambda w, at=at: walls.spur(rng, w, rng.uniform(1.2, 4.5), at))
        elif name == "wavy":
            on(lambda w: walls.waves(rng, w, rng.uniform(0.5, 1.6)))
        elif name in ("lip", "osteophyte"):
            big = rng.uniform(1.5, 5.0) if name == "lip" else rng.uniform(2.5, 7.5)
            for high in rng.permutation([True, False])[: 1 if chance(rng, 0.5) else 2]:
                half = rng.uniform(20, 60) if name == "lip" else rng.uniform(40, 110)
                middle = rng.uniform(-70, 70) if name == "osteophyte" else rng.uniform(-35, 35)
                on(lambda w, high=high, half=half, middle=middle: walls.lip(rng, w, big, high, middle, half))
        elif name == "fish":
            self.born(*plates.hollow(rng, size, rng.uniform(0.08, 0.30)))
        elif name == "wedge":
            tilt = size.height * rng.uniform(0.05, 0.17)
            share = rng.uniform(0.2, 0.8)
            lean = np.clip((1 - plates.MAP_V[:, None] / size.a) / 2, 0, 1.2) + 0 * plates.MAP_U[None, :]
            self.born(tilt * share * lean, tilt * (1 - share) * lean)
        elif name == "short":
            d = size.height * rng.uniform(0.10, 0.25) / 2
            self.born(d, d)
        elif name == "schmorl":
            for _ in range(1 if not strong else rng.integers(1, 3)):
                self._node(chance(rng, 0.5), None)
        elif name == "limbus":
            self.lesions.append(lesions.limbus(rng, chance(rng, 0.75)))
        elif name == "scheuermann":
            lean = np.clip((1 - plates.MAP_V[:, None] / size.a) / 2, 0, 1.2) * size.height * rng.uniform(0.02, 0.14)
            self.born(plates.waves(rng, size) + lean / 2, plates.waves(rng, size) + lean / 2)
            for high in (True, False):
                if chance(rng, 0.6):
                    self._node(high, rng.uniform(1.5, 3.5))
        elif name == "cupid":
            self.born(0.0, plates.cupid(rng, size))
        elif name == "modic":
            for high in (True, False):
                if chance(rng, 0.6):
                    self.lesions.append(lesions.sclerosis(rng, high, fatty=chance(rng, 0.25)))
        elif name in ("arrest", "haemangioma", "island", "lytic", "basivertebral"):
            self.lesions.append(getattr(lesions, name)(rng))

    def _node(self, high, depth):
        drop, ring = plates.node(self.rng, self.size, depth)
        self.born(*((drop, 0.0) if high else (0.0, drop)))
        if chance(self.rng, 0.85):
            self.lesions.append(lesions.rim_of_pit(self.rng, high, np.maximum(ring, drop / (drop.max() + 1e-6))))

    def break_plates(self):
        """Sink the plates until the wanted loss is reached."""
        rng, size, plan = self.rng, self.size, self.plan
        up, low = plan.evidence[:2]
        make = plates.broken if plan.broken else plates.healed
        share = rng.uniform(0.3, 0.7)
        if plan.kind == "D" or plan.kind == "old":
            both = chance(rng, 0.4)
            up = both or chance(rng, 0.65)
            low = both or not up
        if plan.kind == "D":
            make = plates.sunk
        goal = plan.loss * size.height
        parts = [share, 1 - share] if up and low else [float(up), float(low)]
        if up:
            self.top = _join(self.top, make(rng, size, goal * parts[0]))
        if low:
            self.bottom = _join(self.bottom, make(rng, size, goal * parts[1]))
        for _ in range(3):  # where both sink apart, or pieces stand out, the sum differs from the goal
            got = plates.loss_of(size, self.top0, self.bottom0, self.top0 - self.top.drop,
                                 self.bottom0 + self.bottom.drop)  # fmt: skip
            k = np.clip(plan.loss / max(got, 0.01), 0.4, 2.5)
            self.top.drop, self.bottom.drop = self.top.drop * k, self.bottom.drop * k

    def signs(self):
        """Signs of recent breakage inside the bone, each of them optional."""
        rng, plan = self.rng, self.plan
        for high, plate, hit in ((True, self.top, plan.evidence[0]), (False, self.bottom, plan.evidence[1])):
            if not hit:
                continue
            weak = plate.drop[plates.MAP_V.size // 4 : -plates.MAP_V.size // 4].max() < 1.8
            # A plate that hardly sank and shows no band either could not be told from a whole one.
            if chance(rng, 0.9 if weak else 0.6):
                self.lesions.append(lesions.impaction(rng, high, plate.hurt))
            if chance(rng, 0.12):
                self.lesions.append(lesions.cleft(rng, high, plate.hurt))
            if chance(rng, 0.30):
                height = (1 if high else -1) * rng.uniform(0.1, 0.42) * self.size.height
                self.lesions.append(lesions.crack(rng, height, rng.uniform(8, 26), chance(rng, 0.45)))
        if plan.evidence[2]:
            both = plan.evidence[0] == plan.evidence[1]
            lean = rng.uniform(0.5, 0.95) if plan.evidence[0] else rng.uniform(0.05, 0.5)
            at = rng.uniform(0.08, 0.95) if both or chance(rng, 0.35) else lean
            if plan.kind == "D" and chance(rng, 0.4):
                at = rng.uniform(0.55, 0.9)  # the front wall fails in its upper third most often
            amount = min(0.6 + rng.gamma(1.7, 0.9), 4.5)
            self.on_wall.append(lambda w: walls.buckle(rng, w, at, amount))
            if chance(rng, 0.2):
                self.on_wall.append(lambda w: walls.buckle(rng, w, rng.uniform(0.1, 0.9), amount * 0.6))
            if chance(rng, 0.5 if plan.kind == "D" else 0.3):
                self.late.append(lambda h: lesions.crack(rng, h(at), rng.uniform(4, 18), chance(rng, 0.4)))
            if chance(rng, 0.4 if plan.kind == "D" else 0.1):
                self.late.append(lambda h: lesions.condense(rng, h(at)))
        if plan.evidence[3]:
            self.on_wall.append(lambda w: walls.retropulse(rng, w, rng.uniform(1.5, 6.0)))

    def heal(self):
        """Leftovers of an old fracture: rounded corners, at times lips, a bulging back wall, sclerosis."""
        rng = self.rng
        self.corner = rng.uniform(1.5, 6.0)
        if chance(rng, 0.35):
            self.feature("osteophyte")
        if chance(rng, 0.25):
            self.lesions.append(lesions.sclerosis(rng, chance(rng, 0.6)))
        if chance(rng, 0.2):
            bulge = rng.uniform(1, 4)
            self.on_wall.append(lambda w: walls.lip(rng, w, bulge, True, 180.0, 40.0))
        if chance(rng, 0.3):
            self.on_wall.append(lambda w: walls.spur(rng, w, rng.uniform(0.6, 2.0), rng.uniform(0.2, 0.8)))


def build(rng, plan, size):
    """Return (Body, loss fraction, cement centres and radii in mm) for ``plan``."""
    m = _Maker(rng, plan, size)
    if plan.kind not in ("A", "B", "C", "D", "old", "plain"):
        m.feature(plan.kind)
    for name in plan.extras:
        m.feature(name)
    if plan.broken or plan.kind == "old":
        m.break_plates()
    if plan.broken:
        m.signs()
    if plan.kind == "old":
        m.heal()
    top, bottom = m.top0 - m.top.drop, m.bottom0 + m.bottom.drop
    # Opposite plates keep a few millimetres of crushed bone between them.
    mid = (top + bottom) / 2
    top, bottom = np.maximum(top, mid + 2.5), np.minimum(bottom, mid - 2.5)
    loss = plates.loss_of(size, m.top0, m.bottom0, top, bottom) if plan.broken or plan.kind == "old" else 0.0
    wall = walls.whole(rng, size, top, bottom)
    for act in m.on_wall:
        act(wall)
    front = walls.ANGLES.size // 2
    rim = wall.rim[0][front], wall.rim[1][front]
    for act in m.late:
        m.lesions.append(act(lambda at: rim[1] + at * (rim[0] - rim[1])))
    if plan.cement:  # last: it fills clefts
        act, centres, radii = lesions.cement(rng)
        m.lesions.append(act)
        m.metal = list(zip(centres, radii, strict=True))
    frail = np.clip((140 - plan.marrow) / 110, 0, 1)
    shell = rng.uniform(0.4, 1.2) * (1 - 0.3 * frail)
    body = Body(Frame(), top, bottom, plate_thickness(rng, size, shell) * m.top.thick,
                plate_thickness(rng, size, shell) * m.bottom.thick, wall, shell, m.corner, plan.marrow,
                m.top.hurt, m.bottom.hurt, m.lesions)  # fmt: skip
    return body, loss, m.metal
