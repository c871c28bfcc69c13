# SPDX-License-Identifier: GPL-2.0
#
# Short names for `cargo xtask`. With KDIR, the build directory or the headers
# of a kernel with CONFIG_RUST=y, the module is built for that kernel, without
# cargo:
#
#	make KDIR=/lib/modules/$(uname -r)/build modules
#
# `make -C KDIR M=...` with this directory reads Kbuild, not this file.

XTASK = cargo xtask

help:
	@echo 'make demo     mounts a real image in a virtual machine'
	@echo 'make test     runs all tests'
	@echo 'make modules  builds composefs.ko; with KDIR=..., for your own kernel'
	@echo 'make helper   builds mount.composefs; make install-helper installs it'
	@echo 'make patches  writes patches for a kernel tree'
	@echo 'make shell    a shell in the guest, with the module loaded'
	@echo 'make setup    installs what this machine lacks, or lists it'
	@echo 'make clean    removes what was built in the clone'
	@echo 'cargo xtask --help lists all commands'

demo test setup kernel guest patches:
	$(XTASK) $@

shell:
	$(XTASK) vm

ifdef KDIR
ifeq ($(wildcard $(KDIR)/Makefile),)
$(error there is no kernel to build for in $(KDIR): install its headers, or name its build directory)
endif

modules modules_install:
	$(MAKE) -C $(KDIR) M=$(CURDIR)/fs/composefs $@

clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR)/fs/composefs $@
else
modules:
	$(XTASK) module

modules_install:
	@echo 'error: name the kernel: make KDIR=DIR modules_install' >&2
	@false

clean:
	cargo clean
endif

# mount(8) looks for helpers in /sbin.
SBINDIR = /sbin
MANDIR = /usr/local/share/man
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
TOOL = tools/mount-composefs

helper:
	cargo build --release --package mount-composefs

# Builds nothing, for root may have no cargo.
install-helper:
	install -D -m 755 $(TARGET_DIR)/release/mount-composefs $(DESTDIR)$(SBINDIR)/mount.composefs
	install -D -m 644 $(TOOL)/man/mount.composefs.8 $(DESTDIR)$(MANDIR)/man8/mount.composefs.8
	install -D -m 644 $(TOOL)/man/composefs.5 $(DESTDIR)$(MANDIR)/man5/composefs.5

.PHONY: help demo test setup kernel guest patches shell modules modules_install clean helper install-helper
