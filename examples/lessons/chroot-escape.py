"""Leaves a chroot: the current directory may stay outside of a second one, and `..` knows no root that it never meets."""
import os

os.chroot("box/rootfs")
os.chdir("/")
print("in the chroot there is an /etc/hostname:", os.path.exists("/etc/hostname"))
os.makedirs("tmp/second", exist_ok=True)
os.chroot("tmp/second")
for _ in range(64):
    os.chdir("..")
os.chroot(".")
print("a moment later there is an /etc/hostname:", os.path.exists("/etc/hostname"))
