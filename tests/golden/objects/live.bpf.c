// SPDX-License-Identifier: Apache-2.0
// The smallest useful policy: every connection, new or migrating, to one of those that share.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

__u32 segue_live;
__u64 selected;
__u64 migrated;

SEC("sk_reuseport/migrate")
int live(struct sk_reuseport_md *md)
{
	__u32 count = segue_live;
	__u32 place;

	if (!count)
		return SK_PASS;
	place = md->hash % count;
	if (bpf_sk_select_reuseport(md, &sockets, &place, 0))
		return SK_PASS;
	if (md->migrating_sk)
		__sync_fetch_and_add(&migrated, 1);
	else
		__sync_fetch_and_add(&selected, 1);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
