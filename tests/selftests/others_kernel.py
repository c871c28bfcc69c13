#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The kernel's own selftests about files and mounts, in a system whose root
is an overlayfs with composefs as the lower layer.

Those that write nothing beside /tmp run on composefs itself, too.
"""

from __future__ import annotations

from lib import core, ktap, objects, others, whole_system
from lib.others import Program
from lib.whole_system import READ_ONLY, WRITABLE

DIRECTORY = f"{whole_system.GIVEN}/kselftest"

PROGRAMS = """
filesystems:anon_inode_test filesystems:devpts_pts filesystems:fclog
filesystems:idmapped_tmpfile
filesystems:rw_hint_test filesystems:ustat_test
filesystems/overlayfs:dev_in_maps filesystems/overlayfs:set_layers_via_fds
filesystems/overlayfs:idmapped_mounts filesystems/overlayfs:automount_in_layer
filesystems/statmount:statmount_test filesystems/statmount:statmount_test_ns
filesystems/statmount:listmount_test
filesystems/mount-notify:mount-notify_test
filesystems/mount-notify:mount-notify_test_ns
filesystems/move_mount:move_mount_test
filesystems/mount_cycle:loop_cycle_test
filesystems/mount_cycle:unmounted_tree_test
filesystems/mount_cycle:overmount_reparent_test
filesystems/mount_cycle:mount_cover_test
filesystems/mount_cycle:locked_handle_test
filesystems/mount_cycle:nsfs_rbind_loop_test
filesystems/mount_cycle:overmount_ns_file_test
filesystems/open_tree_ns:open_tree_ns_test
filesystems/open_tree_ns:open_tree_ns_covered_test
filesystems/umount_propagation:umount_propagation_test
filesystems/umount_propagation:shrink_submounts_test
filesystems/umount_propagation:locked_mount_test
filesystems/fscontext_ns:fscontext_ns_test
filesystems/fsmount_ns:fsmount_ns_test
filesystems/empty_mntns:empty_mntns_test
filesystems/empty_mntns:overmount_chroot_test
filesystems/empty_mntns:clone3_empty_mntns_test
filesystems/empty_mntns:internal_sb_reconfigure_test
filesystems/empty_mntns:nullfs_atime_test
filesystems/empty_mntns:root_readdir_test
filesystems/mntns_unbindable:mntns_unbindable_test
filesystems/failfs:failfs_test
exec:execveat exec:non-regular exec:load_address.0x1000
exec:load_address.0x200000 exec:load_address.0x1000000
exec:load_address.static.0x1000 exec:load_address.static.0x200000
exec:load_address.static.0x1000000 exec:recursion-depth exec:null-argv
exec:check-exec exec:binfmt_script.py exec:check-exec-tests.sh
mincore:mincore_selftest cachestat:test_cachestat
splice:default_file_splice_read.sh splice:short_splice_read.sh
mount_setattr:mount_setattr_test
move_mount_set_group:move_mount_set_group_test
mount:run_unprivileged_remount.sh mount:run_nosymfollow.sh
filelock:ofdlocks tmpfs:bug-link-o-tmpfile
proc:proc-self-map-files-001 proc:proc-self-map-files-002
proc:proc-maps-race proc:proc-pid-vm proc:setns-dcache
""".split()

# They write nothing beside /tmp.
READING = """
filesystems:rw_hint_test
filesystems/statmount:statmount_test filesystems/statmount:listmount_test
filesystems/open_tree_ns:open_tree_ns_test
filesystems/fsmount_ns:fsmount_ns_test
filesystems/empty_mntns:empty_mntns_test
exec:load_address.0x1000 exec:load_address.0x200000
exec:load_address.0x1000000 exec:load_address.static.0x1000
exec:load_address.static.0x200000 exec:load_address.static.0x1000000
exec:recursion-depth exec:null-argv
splice:short_splice_read.sh mount_setattr:mount_setattr_test
proc:proc-self-map-files-001 proc:proc-self-map-files-002
proc:proc-maps-race proc:proc-pid-vm
""".split()


def programs() -> list[Program]:
    found = []
    for kind, names in ((READ_ONLY, READING), (WRITABLE, PROGRAMS)):
        for name in names:
            directory, _, program = name.partition(":")
            found.append(Program(name, kind, [
                "sh", "-c", 'cd "$1" && exec "$2"', "sh",
                f"{DIRECTORY}/{directory}", f"./{program}"], others.by_tap,
                seconds=300))
    return found


def main() -> None:
    if not whole_system.SHARE:
        ktap.skip_all("COMPOSEFS_OTHERS is not set: it names a directory with "
                      "the kernel's selftests")
    others.run("the kernel's selftests", programs(), least=560)


core.require_composefs()
objects.require_verity()
ktap.require_programs("composefs", "mkcomposefs")
main()
