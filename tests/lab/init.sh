#!/bin/bash
# The guest's first process, after the initial RAM disk: mounts what a Linux has, then runs the agent.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
release=$(uname -r)
mkdir -p /dev/pts /dev/shm /dev/hugepages "/lib/modules/$release"
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount --bind /run/modules "/lib/modules/$release"
for tool in modprobe lsmod rmmod; do
	cat > "/usr/local/sbin/$tool" <<-END
		#!/bin/sh
		lib=/run/tools/usr/lib/x86_64-linux-gnu
		exec "\$lib/ld-linux-x86-64.so.2" --library-path "\$lib" --argv0 $tool /run/tools/usr/bin/kmod "\$@"
	END
	chmod +x "/usr/local/sbin/$tool"
done
ln -sf /proc/self/fd /dev/fd
hostname lab
ip link set lo up
echo "LAB-UP kernel=$release"
exec /usr/bin/python3 -I /run/lab/agent.py
