"""Players on the nodes of a Ray cluster: the ordinary workers, in folders that go with them.

Finished games cross as bytes, a chunk at a time, and count once they are in the learner's folder.
"""

import sys
import time
from contextlib import ExitStack

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from . import __version__
from .checkpoint import cycle_path, newest_cycle
from .cluster import connect, room
from .config import Recipe
from .crew import STOP_S
from .machine import write_whole
from .record import MAGIC
from .workers import GLANCE_S, LEARN_S, playing

CHUNK_S = 1.0  # in which a chunk gathers
LOOK_S = 20.0  # between looks for nodes that don't play, or no longer


class Node:
    """The actor of a node: its workers, and the files of games that they finish."""

    def __init__(self, version: str, recipe: bytes, cycle: int, network: bytes, *order) -> None:
        """Have the workers play; recipe: in JSON, order: the rest for `playing`."""
        self.cycle, self.room, self.players = cycle, ExitStack(), ExitStack()
        self.folder = self.room.enter_context(room(version))
        write_whole(cycle_path(self.folder, cycle), network)
        recipe = msgspec.json.decode(recipe, type=Recipe)
        players = playing(recipe, self.folder, self.folder, *order)
        self.look_after, _ = self.players.enter_context(players)

    def play(self, cycle: int, network: bytes, is_last: bool = False) -> tuple[str, bytes]:
        """Play on with the newest network; return what was finished, named after the first."""
        if cycle > self.cycle:
            write_whole(cycle_path(self.folder, cycle), network)
            for missed in range(cycle - 1, self.cycle, -1):  # workers go from each to the next
                cycle_path(self.folder, missed).touch()
            self.cycle = cycle
        time.sleep(CHUNK_S)
        self.look_after(0, False)
        if is_last:
            self.players.close()
        paths = sorted(self.folder.glob("*.games"), key=lambda path: path.stat().st_mtime)
        chunk = b"".join(path.read_bytes() for path in paths)
        for path in paths:
            path.unlink()
        if is_last:
            self.room.close()
        return paths[0].name.rpartition("-")[0] if paths else "", chunk


class Cluster:
    """The nodes that play for a learner, in the place of `workers.playing`."""

    def __init__(self, address: str, *order) -> None:
        connect(address)
        self.recipe, self.networks, self.records, self.sitting = order
        self.cycle, self.num_workers, self.num_chunks, self.look_s = -1, 0, 0, 0.0
        # The chunk that each actor is asked for, since when, and what the log says of its node.
        self.pending: dict[ray.ObjectRef, tuple[ray.actor.ActorHandle, float, dict]] = {}

    def __enter__(self) -> tuple:
        return self.play, LEARN_S

    def __exit__(self, *exception) -> None:
        """End the actors, and keep what they have finished."""
        for who in [*self.pending.values()]:
            self.pending[who[0].play.remote(self.cycle, self.network, True)] = who
        self._take(2 * STOP_S, is_last=True)
        ray.shutdown()

    def play(self, missing: int, is_idle: bool) -> dict:
        """Keep the chunks that came, and ask for the next; return what the log says of nodes."""
        if (newest := newest_cycle(self.networks, self.cycle)) > self.cycle:
            self.network = ray.put(cycle_path(self.networks, newest).read_bytes())
            self.cycle = newest
        if time.monotonic() >= self.look_s:
            self.look_s = time.monotonic() + LOOK_S
            known = {figures["node"] for *_, figures in self.pending.values()}
            for node in ray.nodes():
                cores = int(node["Resources"].get("CPU", 0))
                if cores and node["Alive"] and node["NodeID"] not in known:
                    self._start(node, cores)
        time.sleep(GLANCE_S if is_idle else 0.0)
        self._take()
        return {"nodes": [{**figures} for *_, figures in self.pending.values()]}

    def _start(self, node: dict, cores: int) -> None:
        """Have a node play: a worker for each core, and a card if it has any."""
        numbers = range(self.num_workers, self.num_workers + cores)  # nobody else's
        self.num_workers += cores
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        cards = min(1, node["Resources"].get("GPU", 0))
        start = ray.remote(num_cpus=cores, num_gpus=cards, scheduling_strategy=here)(Node)
        recipe = msgspec.json.encode(msgspec.structs.replace(self.recipe, device="auto"))
        actor = start.remote(__version__, recipe, self.cycle, self.network, self.sitting, numbers)
        figures = {"node": node["NodeID"], "address": node["NodeManagerAddress"], "players": cores}
        figures |= {"games": 0, "games_per_s": 0.0, "cycles_behind": 0}
        self.pending[actor.play.remote(self.cycle, self.network)] = actor, time.monotonic(), figures

    def _take(self, wait_s: float = 0.0, is_last: bool = False) -> None:
        """Keep the chunks that came, each as a file, and ask for the next ones."""
        answers = [*self.pending]
        for answer in ray.wait(answers, num_returns=len(answers), timeout=wait_s)[0]:
            actor, since_s, figures = who = self.pending.pop(answer)
            try:
                name, chunk = ray.get(answer)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                tqdm.write(f"no more games from {figures['address']}: {reason}", file=sys.stderr)
                ray.kill(actor)
                continue
            if chunk:
                write_whole(self.records / f"{name}-{self.sitting}-{self.num_chunks}.games", chunk)
                self.num_chunks += 1
                figures["games"] += chunk.count(MAGIC)
                figures["games_per_s"] = figures["games"] / (time.monotonic() - since_s)
                figures["cycles_behind"] = self.cycle - int(name.split("-")[1])
            if not is_last:
                self.pending[actor.play.remote(self.cycle, self.network)] = who
