"""`minigo play`: a page to play against networks, to see them think, and to watch a run.

A game lies in the browser, as SGF, and each request brings all of it: a reload, a second tab or a
server that was killed loses nothing. Here are only networks, and trees that can go on. The player
is GTP's (`engine.py`); the page is `page.html`, its board `board.js`, which the lessons have, too.
"""

import functools
import secrets
import select
import threading
import traceback
import webbrowser
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, MsgspecError, Struct

from ..checkpoint import list_shipped
from ..config import RULES, Count, Komi, PlayConfig, Size, change
from ..coords import BLACK, format_color, sign_of
from ..evaluator import legal_policy
from ..machine import cache_folder, format_error, sort_by_number
from ..play.engine import LEVEL_VISITS, Engine
from ..play.gtp import PV_LENGTH, place_handicap
from ..play.shipped import choose_network, trained_sizes
from ..record import read_records
from ..search import Search
from ..sgf import GameTree, format_result, format_sgf
from .analyze import HARDLY, annotate, judge, look_at
from .lessons import describe_networks, fill_page, list_shares, pick_cycles
from .progress import describe_run, format_row, read_ratings

SLICE_S = 0.1  # of a search, between looks at it
KEPT = 8  # trees, one for each tab and player, and networks
JUDGED = 64  # simulations at least, where a game's moves are judged
RUN_GAMES = 10  # of a run, the newest
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{}'; connect-src 'self';"
POLICY += "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
EXPECTED = ValueError | OSError | MemoryError | OverflowError | MsgspecError  # of garbage
_lock = threading.RLock()  # of networks and trees: one thinks at a time, a slice each
_networks: dict = {}  # of all engines


class NewGame(Struct, frozen=True, forbid_unknown_fields=True):
    """How a game begins."""

    size: Size
    rules: Literal[tuple(RULES)]
    komi: Komi
    handicap: Count


class Mind(Struct, frozen=True, forbid_unknown_fields=True):
    """Who thinks: a network, by default the size's own; with a level, it plays like a person."""

    network: str = ""
    visits: Annotated[int, Meta(ge=0, le=1024)] = 0
    level: Annotated[int, Meta(ge=0, le=9)] = 0


class Ask(Struct, frozen=True, forbid_unknown_fields=True):
    """A game, where in it one is, and what is to happen there."""

    sgf: str
    at: Count = 0  # number of the node, as `GameTree.nodes` has them
    move: Annotated[int, Meta(ge=-1, le=361)] | None = None  # is played, -1 gives up; then
    minds: dict[Literal["B", "W"], Mind] = {}  # that of the colour to move thinks,
    plays: str = ""  # and of these colours moves, too
    tab: str = ""  # whose trees go on


class Server(ThreadingHTTPServer):
    """Answers on this machine alone, and only who knows the token."""

    def __init__(self, port: int, token: str, run: Path | None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.token, self.run = token, run
        port = f":{self.server_port}" * (self.server_port != 80)  # which browsers leave out
        self.hosts = [f"127.0.0.1{port}", f"localhost{port}"]

    def page(self) -> str:
        """Return the page, with the networks that there are."""
        found = describe_networks([*list_shipped(), *(pick_cycles(self.run) if self.run else ())])
        networks = [
            {"name": n.name, "kind": n.kind, "minutes": n.minutes, "sizes": trained_sizes(n.info)}
            for n in sorted(found, key=lambda network: network.minutes)
        ]
        data = {"networks": networks, "hardly": 1000 * HARDLY, "run": bool(self.run)}
        return fill_page("page.html", data)

    @functools.lru_cache(maxsize=KEPT)  # noqa: B019 - there is one server
    def engine(self, tab: str, mind: Mind, size: int) -> Engine:
        """Return who plays or advises in a tab; engines share their networks."""
        name = mind.network or choose_network(size, human=False)
        if name not in list_shipped() and (not self.run or Path(name).parent != self.run):
            raise ValueError(f"no network {name[:60]!r} is here")
        engine = Engine(PlayConfig(name, mind.visits, level=mind.level))
        engine.networks = _networks
        return engine


class Handler(BaseHTTPRequestHandler):
    """Answers the page: to POST by lines of JSON, or with status 400 by a line that says why."""

    server: Server
    timeout = 60
    error_message_format, error_content_type = "%(message)s\n", "text/plain"
    log_message = lambda self, *_: None  # noqa: E731

    def do_GET(self) -> None:
        if self._find([""]) is not None:
            nonce = secrets.token_urlsafe(16)
            text = self.server.page().replace("<script>", f'<script nonce="{nonce}">')
            self._send(200, "text/html", [text.encode()], nonce)

    def do_POST(self) -> None:
        if name := self._find(ROUTES):
            lines = self._answer(*ROUTES[name])
            first = next(lines)
            if "error" in first:
                return self._send(400, "text/plain", [f"{first['error']}\n".encode()])
            lines = (msgspec.json.encode(line) + b"\n" for line in chain([first], lines))
            self._send(200, "application/x-ndjson", lines)

    def _find(self, names: Container[str]) -> str | None:
        """Return what the page asks for; to who isn't the page, the answer is 403."""
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        token, name = f"{self.path}//".split("/")[1:3]
        is_here = host in self.server.hosts and origin in (None, f"http://{host}")
        is_known = secrets.compare_digest(token.encode(), self.server.token.encode())
        if is_here and is_known and name in names:
            return name
        self._send(403, "text/plain", [b"only the address that minigo play says leads here\n"])

    def _send(self, status: int, kind: str, parts: Iterable[bytes], nonce: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Security-Policy", POLICY.format(nonce))
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        with suppress(ConnectionError):  # the page was closed
            self.end_headers()
            for part in parts:
                self.wfile.write(part)

    def _answer(self, kind: type, answer) -> Iterator[dict]:
        """Yield the lines of an answer; as in GTP nothing that is sent ends the server."""
        try:
            body = self.rfile.read(max(0, int(self.headers.get("Content-Length", 0))))
            yield from answer(self, body if kind is bytes else msgspec.json.decode(body, type=kind))
        except Exception as error:
            if not isinstance(error, EXPECTED):
                traceback.print_exc()
            yield {"error": format_error(error)}

    def is_gone(self) -> bool:
        """Tell whether the page no longer waits for the answer."""
        return bool(select.select([self.connection], [], [], 0)[0])


class Table:
    """A game, and the position in it that a request is about."""

    def __init__(self, ask: Ask) -> None:
        self.game, self.result = GameTree(ask.sgf.encode()), ""
        nodes = self.game.nodes()
        if ask.at >= len(nodes):
            raise ValueError(f"the game has {len(nodes)} nodes, none is number {ask.at}")
        self.node = nodes[ask.at]
        self.engine = self.seat(Engine(PlayConfig()))  # it counts at the end
        self.engine.networks = _networks

    def seat(self, engine: Engine) -> Engine:
        """Have an engine take up the position."""
        engine.take(self.game.positions(self.node), RULES[self.game.rules_name])
        return engine

    def play(self, move: int) -> None:
        """Play a move, or -1: resign, and note in the game how it ended."""
        color = self.engine.board.to_play
        if move < 0:
            self.result = f"{format_color(3 - color)}+R"
        else:
            self.engine.play(color, move)
            self.node = self.game.add(self.node, color, move)
            self.result = self.count()
        is_ended = self.game.text(self.game.root, "RE").strip("?")
        if self.node is self.game.last or not is_ended:  # a variation leaves a result alone
            self.game.root.set("RE", self.result or "?")  # the game goes on

    def count(self) -> str:
        """Return the result by the rules, "" if nobody has ended the game."""
        if not self.engine.board.is_over:
            return ""
        with _lock:
            return format_result(float(np.sign(score := self.engine.score())), score)

    def show(self) -> dict:
        """Return the position for the page, and the game around it."""
        board, game = self.engine.board, self.game
        names, nodes = ("PB", "PW", "RE"), {node: i for i, node in enumerate(game.nodes())}
        black, white, result = (game.text(game.root, name) for name in names)
        result = self.result or result.strip("?") * (self.node is game.last) or self.count()
        return {
            "sgf": str(game),
            "at": nodes[self.node],
            "nodes": [(nodes.get(node.parent, -1), *game.describe(node)) for node in nodes],
            "names": [black, white],
            "comment": self.node.get("C") if self.node.has_property("C") else "",
            "about": f"komi {self.engine.rules.komi:g}, {game.rules_name} rules",
            "result": result,
            "over": board.is_over or bool(result),
            "size": board.size,
            "stones": "".join(str(board).split()),
            "last": board.last_move,
            "color": format_color(board.to_play),
            "lost": board.prisoners,
        }


def begin(_: Handler, ask: NewGame) -> Iterator[dict]:
    """Begin a game."""
    engine = Engine(PlayConfig(), change(RULES[ask.rules], komi=ask.komi))
    engine.start(ask.size)
    if ask.handicap > 1:  # of one stone: komi alone
        place_handicap(engine, ask.handicap)
    yield {"sgf": format_sgf(engine.record())}


def load(_: Handler, data: bytes) -> Iterator[dict]:
    """Read a file's first game, whatever its encoding."""
    game = GameTree(data)
    game.positions(game.last)  # it can be played
    yield {"sgf": str(game)}


def follow(handler: Handler, ask: Ask) -> Iterator[dict]:
    """Play what is asked, show the position, think about it, and move if that is wanted."""
    table = Table(ask)
    if ask.move is not None:
        table.play(ask.move)
    color = format_color(table.engine.board.to_play)
    if color in ask.minds and not (table.engine.board.is_over or table.result):
        engine = handler.server.engine(ask.tab, ask.minds[color], table.game.board.size)
        yield table.show()
        yield from think(handler, table, engine, color in ask.plays)
    yield table.show() | {"end": True}


def think(handler: Handler, table: Table, engine: Engine, plays: bool) -> Iterator[dict]:
    """Yield an engine's thoughts while it thinks about a position; then let it move."""
    color, config = table.engine.board.to_play, engine.config
    with _lock:
        if handler.is_gone():
            return
        while len(_networks) > KEPT:
            del _networks[next(iter(_networks))]
        search = table.seat(engine).search_at(color)
        visits = max(1, LEVEL_VISITS * config.level or config.visits)
        is_enough = lambda: handler.is_gone() or search.forest.num_visits(0) >= visits  # noqa: E731
        engine.is_interrupted, engine.must_hurry = is_enough, handler.is_gone
        first = look(engine)
    yield first
    steps, is_done = engine.think(color, SLICE_S, is_endless=not plays), False
    while not is_done:
        with _lock:
            if engine.is_interrupted is not is_enough:  # the tab asks about another position
                return
            is_done = (found := next(steps, None)) is None
            search = found or search  # another one, where the network had been dropped meanwhile
            thought = describe(search, color)
        yield thought
    table.node.set_raw("SBKV", f"{100 * thought['black']:.2f}".encode())
    if plays and not handler.is_gone():
        with _lock:
            if engine.is_interrupted is not is_enough:
                return
            move = engine.genmove(color, search=search)
        name = f"{Path(config.checkpoint).stem}@{config.visits}"
        name = f"level {config.level}" if config.level else name
        table.game.root.set("PB" if color == BLACK else "PW", name)
        table.play(-1 if move is None else move)


def look(engine: Engine) -> dict:
    """Return what needs no search: people's moves, and who owns what."""
    position = engine.position(engine.board.to_play)
    with _lock:
        logits = engine.network(is_human=True)[0].evaluate_boards([position]).logits[0]
        owners = np.rint(10 * engine.owner(position.to_play)).astype(int).tolist()
    people = legal_policy(logits, position.legal_moves())
    return {"people": list_shares(people), "owners": owners}


def describe(search: Search, color: int) -> dict:
    """Return what a search knows: chances and points of moves are the mover's, else Black's."""
    (best, moves, root), sign = search.result(0), sign_of(color)
    visits = moves["visits"]
    tried = np.flatnonzero(visits).tolist()
    return {
        "visits": int(root["visits"]),
        "black": 0.5 + sign * float(root["win"]) / 2,
        "lead": sign * float(root["score"]),
        "best": best,
        "line": [m for m, _ in search.forest.principal_variation(0, best, PV_LENGTH)],
        "network": list_shares(moves["prior"]),
        "search": list_shares(visits / max(1, visits.sum())),
        "wins": {move: 0.5 + float(moves["win"][move]) / 2 for move in tried},
        "points": {move: float(moves["score"][move]) for move in tried},
    }


def find_surprises(handler: Handler, ask: Ask) -> Iterator[dict]:
    """Mark the moves of the line that people would hardly play and the search prefers."""
    table, mind = Table(ask), ask.minds.get("B", Mind())
    game = table.game
    line = [*game.line(table.node), *game.tree.get_main_sequence_below(table.node)]
    positions = game.positions(line[-1])
    ends = [i for i, (_, color, _) in enumerate(positions) if color]
    if not ends:
        raise ValueError("there is no move in the game yet")
    name = handler.server.engine(ask.tab, mind, game.board.size).config.checkpoint
    people, simulations = choose_network(game.board.size, human=True), max(JUDGED, mind.visits)
    shown, looks = positions[ends[0] - 1 :], []
    for look in look_at([board for *_, board in shown], name, people, simulations):
        looks.append(look)
        yield {"looked": len(looks), "of": len(shown)}
    report, nodes, found = judge(shown, 1, looks), game.nodes(), []
    moves = [(positions[i - 1][0], positions[i][0]) for i in ends]
    for number, properties in annotate(report, moves).items():
        for name in properties.keys() - {"C"}:
            line[number].set_raw(name, properties[name].encode())
        found += [nodes.index(line[number])] * ("TE" in properties)
    yield table.show() | {"found": found}


def show_run(handler: Handler, _: dict) -> Iterator[dict]:
    """Return what a run's log says, and its newest games."""
    if (run := handler.server.run) is None:
        raise ValueError("no run is watched: minigo play --run FOLDER")
    log, games = [*map(msgspec.json.decode, (run / "log.jsonl").read_bytes().splitlines())], []
    paths = (run.parent.parent / "selfplay" / run.name).glob("cycle-*")
    for path in reversed(sort_by_number(paths)):
        if len(games) < RUN_GAMES and path.suffix in (".games", ".part"):
            with suppress(OSError, ValueError):  # it was renamed just now, or is still empty
                for record in reversed(read_records(path)[0]):
                    result = format_result(record.result, record.score)
                    title = f"{path.stem}: {len(record.moves)} moves, {result}"
                    games.append({"title": title, "sgf": format_sgf(record)})
    text = format_row(log[-1]) if log else "no cycle is done yet"
    yield {"text": text, "log": log, "ratings": read_ratings(run), "games": games[:RUN_GAMES]}


ROUTES = {  # what is sent, and who answers
    "new": (NewGame, begin),
    "load": (bytes, load),
    "follow": (Ask, follow),
    "surprises": (Ask, find_surprises),
    "run": (dict, show_run),
}


def read_token() -> str:
    """Return the secret in the page's address, kept for the page to find the next server."""
    path = cache_folder() / "token"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)  # only its owner can read it
    if len(path.read_text()) < 32:  # none yet, or not whole
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text()


def serve(run: str | None, port: int) -> None:
    """Open the page in the browser, and serve it until Ctrl-C. Raises ValueError."""
    run, token = Path(run).resolve() if run else None, read_token()
    if run:
        describe_run(run)
    try:
        server = Server(port, token, run)
    except OSError as error:
        raise ValueError(f"port {port}: {error.strerror}; --port takes another") from None
    address = f"http://127.0.0.1:{port}/{token}/"
    print(f"{address}\nCtrl-C ends it.", flush=True)
    threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    threading.Thread(target=look, args=[server.engine("", Mind(), 9)], daemon=True).start()
    server.serve_forever()
