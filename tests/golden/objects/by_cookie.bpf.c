// SPDX-License-Identifier: Apache-2.0
// Migrates by the cookie of the listener that goes, which somebody else writes down beforehand.
// New connections are left to the kernel.  Counts in globals what it moved, and how it stood.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u32);
} heirs SEC(".maps");

const volatile __u32 cancel_unknown = 1;
__u64 children;
__u32 by_ack;
__u32 by_timer;
__u16 unknown = 7; // begins elsewhere than at 0, so it has a place in .data

static __attribute__((noinline)) void count(struct sk_reuseport_md *md, __u32 state)
{
	if (state == BPF_TCP_ESTABLISHED)
		__sync_fetch_and_add(&children, 1);
	else if (md->len)
		__sync_fetch_and_add(&by_ack, 1);
	else
		__sync_fetch_and_add(&by_timer, 1);
}

SEC("sk_reuseport/migrate")
int by_cookie(struct sk_reuseport_md *md)
{
	struct bpf_sock *moving = md->migrating_sk;
	__u32 state, *heir;
	__u64 leaving;

	if (!moving)
		return SK_PASS;
	state = moving->state;
	leaving = bpf_get_socket_cookie(md->sk);
	heir = bpf_map_lookup_elem(&heirs, &leaving);
	if (!heir) {
		unknown++;
		return cancel_unknown ? SK_DROP : SK_PASS;
	}
	if (bpf_sk_select_reuseport(md, &listeners, heir, 0))
		return SK_PASS;
	count(md, state);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
