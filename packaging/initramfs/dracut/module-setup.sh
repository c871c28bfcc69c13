#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts into the initramfs what mounts a composefs image as root. It does nothing there unless
# the kernel's command line names an image.
#
# shellcheck disable=SC2154

check() {
	require_binaries mount.composefs /usr/lib/composefs/composefs-root
}

depends() {
	echo systemd-initrd
}

installkernel() {
	# Also if this machine does not use them now.
	hostonly='' instmods composefs overlay
}

install() {
	local wanted=$systemdsystemunitdir/initrd-root-fs.target.requires

	inst_multiple mount.composefs /usr/lib/composefs/composefs-root \
		composefs-readahead cp ln mkdir mount mv sync umount
	inst_simple "$moddir/composefs-root.service" \
		"$systemdsystemunitdir/composefs-root.service"
	mkdir -p "$initdir$wanted"
	ln -sf ../composefs-root.service "$initdir$wanted/composefs-root.service"
}
