#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The view of each large image of COMPOSEFS_IMAGES, of whole systems, against
that of erofs + overlayfs."""

from __future__ import annotations

from lib import fixtures, ktap, reference
from lib.compare_image import compare_without_objects

suite = ktap.Suite()


reference.require_support()
names = fixtures.names_without_objects(large=True)
if not names:
    ktap.skip_all("COMPOSEFS_IMAGES is not set, or has no large image")
for a_name in names:
    suite.add(f"{a_name}, without objects, equals erofs + overlayfs",
              lambda test, name=a_name: compare_without_objects(test, name))
suite.run()
