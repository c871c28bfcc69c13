#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Deadlocks: an image and its objects on xfs and btrfs.

See lock_order.py.
"""

from lib import file_systems, fixtures, ktap, lock_programs, mounts, objects

suite = ktap.Suite()
lock_programs.add_kinds(suite, file_systems.MODULES)

fixtures.require()
objects.require_verity()
mounts.require_root()
lock_programs.load()
suite.run()
