#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The view of images of whole systems against that of erofs + overlayfs: of
those that differential.py leaves out because they take long."""

from __future__ import annotations

from lib import fixtures, ktap, reference
from lib.compare_image import compare_image, compare_without_objects

suite = ktap.Suite()


reference.require_support()
for an_image in fixtures.load():
    if an_image.name in fixtures.OTHER_VERSIONS:
        suite.add(f"{an_image.name} equals erofs + overlayfs",
                  lambda test, image=an_image: compare_image(test, image))
for a_name in fixtures.names_without_objects(large=True):
    suite.add(f"{a_name}, without objects, equals erofs + overlayfs",
              lambda test, name=a_name: compare_without_objects(test, name))
if not suite.tests:
    ktap.skip_all("there is no large image")
suite.run()
