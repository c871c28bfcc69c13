# SPDX-License-Identifier: GPL-2.0

"""The library of the tests of composefs."""
