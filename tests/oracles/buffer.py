"""A naive `GroupBuffer`: lists that are searched from end to end, and an account of every rollout.

`World` plays one random life in the core and in the model and compares all that can be seen.
"""

import json

from gspo_rs import _core


class Model:
    """Groups are dictionaries in the order of their admission."""

    def __init__(self, limits):
        self.limits = limits
        self.version = 0
        self.held = []
        self.ready = []
        self.given = []
        self.evicted = []

    def find(self, group_id):
        return next((group for group in self.held if group["id"] == group_id), None)

    def bytes(self, groups=None):
        groups = self.held if groups is None else groups
        return sum(rollout[2] for group in groups for rollout in group["rollouts"])

    def stale(self, version):
        most = self.limits["max_staleness"]
        return most is not None and self.version - version > most

    def overflows(self, n_bytes):
        most = self.limits["max_bytes"]
        return most is not None and n_bytes > most

    def open(self, group_id, size, now):
        self.held.append({"id": group_id, "size": size, "opened": now, "rollouts": []})
        return self.held[-1]

    def evict(self, group, reason):
        self.held.remove(group)
        if group in self.ready:
            self.ready.remove(group)
        names = [rollout[0] for rollout in group["rollouts"]]
        self.evicted.append((group["id"], group["size"], names, reason))

    def expire(self, now):
        if self.limits["deadline"] is None:
            return
        for group in [group for group in self.held if group not in self.ready]:
            if group["opened"] + self.limits["deadline"] <= now:
                if group["rollouts"]:
                    self.ready.append(group)
                else:
                    self.evict(group, "deadline")

    def expect(self, group_id, size, now):
        if any(group["id"] == group_id for group in self.given):
            return "late"
        if group := self.find(group_id):
            return "accepted" if group["size"] == size else "error"
        if len(self.held) >= self.limits["max_groups"]:
            return "full"
        self.open(group_id, size, now)
        return "accepted"

    def put(self, group_id, rollout, now):
        name, version, n_bytes, _ = rollout
        given = [group for group in self.given if group["id"] == group_id]
        group = given[0] if given else self.find(group_id)
        if group and any(name == known[0] for known in group["rollouts"]):
            return "duplicate"
        if given or (group and len(group["rollouts"]) == group["size"]):
            return "late"
        if self.stale(version):
            return "stale"
        if self.overflows(n_bytes + (self.bytes([group]) if group else 0)):
            return "error"
        if group is None:
            if len(self.held) >= self.limits["max_groups"] or self.overflows(
                self.bytes() + n_bytes
            ):
                return "full"
            group = self.open(group_id, self.limits["group_size"], now)
        elif self.overflows(self.bytes() + n_bytes):
            self.expire(now)
            if group not in self.held:
                return "evicted"
            if self.ready:
                return "full"
            if not self.make_room(group, n_bytes):
                return "evicted"
        group["rollouts"].append(rollout)
        enough = min(group["size"], self.limits["ready_size"] or group["size"])
        if group not in self.ready and len(group["rollouts"]) >= enough:
            self.ready.append(group)
            return "ready"
        return "accepted"

    def make_room(self, group, n_bytes):
        for other in reversed(self.held[:]):
            if not self.overflows(self.bytes() + n_bytes):
                break
            if other is group or self.bytes([other]):
                self.evict(other, "bytes")
            if other is group:
                return False
        return True

    def take(self, now):
        self.expire(now)
        if not self.ready:
            return None
        group = self.ready.pop(0)
        self.held.remove(group)
        self.given.append(group)
        lag = max(0, self.version - min(rollout[1] for rollout in group["rollouts"]))
        names, versions, _, payloads = (list(part) for part in zip(*group["rollouts"], strict=True))
        age = now - group["opened"]
        return group["id"], group["size"], lag, age, names, versions, payloads

    def advance(self, version):
        self.version = version
        for group in self.held[:]:
            if group["rollouts"] and self.stale(min(rollout[1] for rollout in group["rollouts"])):
                self.evict(group, "stale")


class World:
    """One life, played twice."""

    def __init__(self, limits):
        self.limits = limits
        self.core = _core.GroupBuffer(limits, None, 0.0)
        self.model = Model(limits)
        self.now = 0
        self.n_put = 0
        self.seen = {}

    def expect(self, group_id, size):
        try:
            found = self.core.expect(group_id, size, float(self.now))
        except ValueError:
            found = "error"
        assert found == self.model.expect(group_id, size, self.now)

    def put(self, group_id, name, lag, n_bytes):
        self.n_put += 1
        rollout = (name, max(0, self.model.version - lag), n_bytes, self.n_put)
        try:
            found = self.core.put(group_id, rollout[:3], self.n_put, float(self.now))
        except ValueError:
            found = "error"
        assert found == self.model.put(group_id, rollout, self.now)
        self.seen[found] = self.seen.get(found, 0) + 1

    def take(self):
        found = self.core.take(float(self.now))
        assert found == self.model.take(self.now)
        self.seen["taken"] = self.seen.get("taken", 0) + (found is not None)

    def advance(self):
        self.model.advance(self.model.version + 1)
        self.core.advance(self.model.version)

    def wait(self):
        self.now += 1

    def drain(self):
        assert self.core.evicted() == self.model.evicted
        for *_, reason in self.model.evicted:
            self.seen[reason] = self.seen.get(reason, 0) + 1
        self.model.evicted = []

    def save_and_restore(self):
        state = json.loads(json.dumps(self.core.state(float(self.now))))
        self.core = _core.GroupBuffer(self.limits, state, float(self.now))
        assert self.core.state(float(self.now)) == state

    def check(self):
        sizes = (len(self.model.held), len(self.model.ready), self.model.bytes())
        assert self.core.held() == (*sizes, self.model.version)
        totals = self.core.totals()
        held = sum(len(group["rollouts"]) for group in self.model.held)
        assert totals["accepted"] == totals["given_rollouts"] + totals["evicted_rollouts"] + held
