#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The view of images of the fixtures, and of small images of COMPOSEFS_IMAGES,
against that of erofs + overlayfs.

differential_large.py has the others.
"""

from __future__ import annotations

from lib import fixtures, ktap, reference
from lib.compare_image import compare_image, compare_without_objects

suite = ktap.Suite()


reference.require_support()
for an_image in fixtures.load():
    if an_image.name not in fixtures.OTHER_VERSIONS:
        suite.add(f"{an_image.name} equals erofs + overlayfs",
                  lambda test, image=an_image: compare_image(test, image))
for a_name in fixtures.names_without_objects(large=False):
    suite.add(f"{a_name}, without objects, equals erofs + overlayfs",
              lambda test, name=a_name: compare_without_objects(test, name))
suite.run()
