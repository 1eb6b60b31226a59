"""The lab: a QEMU guest with SR-IOV NICs, an IOMMU and cgroup v2, for the machines that have none of them."""
