// SPDX-License-Identifier: Apache-2.0
// Reads Segue's table of shares, and counts where Segue's counters are.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct table {
	__u16 slot[4096];
	__u32 live;
	__u32 padding;
	__u16 scan[64];
};

struct counts {
	__u64 fresh, request, child, fastopen, cancelled, fell_back;
};

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct table);
} tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1025);
	__type(key, __u32);
	__type(value, struct counts);
} counters SEC(".maps");

SEC("sk_reuseport/migrate")
int by_table(struct sk_reuseport_md *md)
{
	struct bpf_sock *moving = md->migrating_sk;
	__u32 zero = 0, slot, copy, *active;
	struct counts *counts;
	struct table *table;

	active = bpf_map_lookup_elem(&control, &zero);
	if (!active)
		return SK_PASS;
	copy = *active & 1;
	table = bpf_map_lookup_elem(&tables, &copy);
	if (!table)
		return SK_PASS;
	slot = table->slot[md->hash & 4095];
	if (bpf_sk_select_reuseport(md, &sockets, &slot, 0))
		return SK_PASS;
	counts = bpf_map_lookup_elem(&counters, &slot);
	if (!counts)
		return SK_PASS;
	if (!moving)
		counts->fresh++;
	else if (moving->state == BPF_TCP_ESTABLISHED)
		counts->child++;
	else
		counts->request++;
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
