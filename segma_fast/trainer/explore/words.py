"""The texts of the page."""

from __future__ import annotations

INTRODUCTION = """{about}

The model turns a picture into a **code**, a few numbers, and a code into a picture. Choose a picture at the left, and
move its code at the right. {names}"""
WITHOUT_LABELS = "The model was trained without labels: its {count} components, c0, c1, …, are no classes."
MAP = """Each point is the code of a test picture, a cross the middle of a {kind}. Click a point to choose its picture.
The picture that was chosen last is **B**, the one before it **A**. (The map is `codes.png` of the run folder.)"""
TRANSFER = """**Turns the picture into another {kind} and keeps its style**, such as slant and thickness. At t = 0 it is
still itself, at t = 1 it is there, and more goes beyond. (Equation (10) of SeGMA's paper: {way}.)"""
INTENSITY = """**Makes the picture less like another {kind}**: more of what sets the two apart. An α below 0 makes it
more like the other. (Equation (11) of SeGMA's paper: {way}.)"""
SAMPLES = """**New pictures**, decoded from random codes of each {kind}. A smaller spread keeps them closer to its
typical picture."""
UPLOAD = "A picture file of up to 20 MB; it is brought to the form of the training pictures."
ONE_WAY = "This model has one component: there is no other to move to or away from."
