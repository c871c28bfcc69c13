# SPDX-License-Identifier: GPL-2.0

"""What the tests of composefs have in common."""
