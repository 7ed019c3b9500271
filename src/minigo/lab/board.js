"use strict";
// A game to look at, for the lessons and for play: the board, thoughts laid over it, a slider and a graph.
const $ = id => document.getElementById(id), COLUMNS = "ABCDEFGHJKLMNOPQRST", MARGIN = .7;
const escape = text => String(text).replace(/[&<>"]/g, character => `&#${character.charCodeAt()};`);
const each = (list, write) => Array.from(list, write).join("");
const vertexOf = (move, n) => move < n * n ? COLUMNS[move % n] + (n - Math.floor(move / n)) : "pass";
const signed = points => (points < 0 ? "−" : "+") + Math.abs(points).toFixed(1);
const inPercent = thousandths => `${thousandths < 10 ? thousandths / 10 : Math.round(thousandths / 10)} %`;

// A position: size, stones (".XO"), last, toPlay ("X", "O"), and of thoughts those that are known: people, network and
// search (thousandths by move), line (moves), owners (tenths, +10 Black's), points (by move), surprise (a move).
function drawBoard(svg, {size: n, stones, last, toPlay, line = [], ...thoughts}, shown, cursor) {
  const at = point => [1 + point % n, 1 + Math.floor(point / n)];
  const circle = (point, r, kind) => `<circle cx="${at(point)[0]}" cy="${at(point)[1]}" r="${r}" class="${kind}"/>`;
  const text = ([x, y], text, kind) => `<text x="${x}" y="${y + .11}" class="${kind}">${text}</text>`;
  const stars = [n > 11 ? 3 : n > 7 ? 2 : 1, (n - 1) / 2, n - (n > 11 ? 4 : n > 7 ? 3 : 2)].filter(Number.isInteger);
  const drawOwner = (owner, point) => {
    const side = .062 * Math.abs(owner), [x, y] = at(point).map(center => center - side / 2);
    return `<rect x="${x}" y="${y}" width="${side}" height="${side}" class="mark ${owner > 0 ? "X" : "O"}"/>`;
  };
  const ghosts = shown.has("line") ? line.slice(0, 8).filter(move => move < n * n) : [], isFree = move => move < n * n && !ghosts.includes(move);
  const drawGhost = (move, i) => {
    const color = (toPlay === "X") === (i % 2 === 0) ? "X" : "O";
    return circle(move, .44, `ghost mark ${color}`) + text(at(move), i + 1, color === "X" ? "O" : "X");
  };
  const names = ["people", "network", "search"].filter(name => shown.has(name) && thoughts[name]);
  const points = Object.entries(shown.has("points") && thoughts.points || {}).filter(([move]) => isFree(+move));
  const discs = names.flatMap(name => Object.entries(thoughts[name]).map(([move, p]) => ({name, p, move: +move})));
  const drawDisc = ({name, p, move}) => p < 10 || !isFree(move) ? "" : circle(move, .2 + .27 * Math.sqrt(p / 1000), `mark ${name}`) +
    (names.length > 1 || points.length || p < 20 ? "" : text(at(move), Math.round(p / 10), "O"));
  svg.setAttribute("viewBox", `0 0 ${n + MARGIN} ${n + MARGIN}`);
  svg.innerHTML =
    each({length: n}, (_, i) => `<path d="M${i + 1} 1V${n}M1 ${i + 1}H${n}"/>` +
      text([i + 1, .35], COLUMNS[i], "edge") + text([.35, i + 1], n - i, "edge")) +
    each(stars, row => each(stars, column => circle(row * n + column, .09, "star"))) +
    each(stones, (color, point) => color === "." ? "" : circle(point, .47, `stone ${color}`)) +
    (last >= 0 && last < n * n ? circle(last, .22, "last") : "") +
    (shown.has("owners") ? each(thoughts.owners || [], drawOwner) : "") +
    each(discs.sort((a, b) => b.p - a.p), drawDisc) + each(ghosts, drawGhost) +
    each(points, ([move, lead]) => (names.length ? "" : circle(move, .42, "mark search")) + text(at(move), signed(lead), "O")) +
    (thoughts.surprise >= 0 ? circle(thoughts.surprise, .48, "surprise") : "") +
    (cursor >= 0 ? circle(cursor, .48, "cursor") : "");
}

// The board and what is around it; `go(ply)` is called to step, `play(move)`, if given, to play. Returns what shows a
// position with words about it, and the graph of Black's chances (percent, else null or NaN, by ply).
function makeViewer(element, overlays, shown, go, play = null) {
  element.innerHTML = `<svg id="board" ${play ? 'role="application" tabindex="0"' : 'role="img"'}
      aria-label="Board${play ? ": arrow keys choose a point, Enter plays there" : ""}"></svg>
    <p id="said" aria-live="polite"></p>
    <p class="row" id="steps"><button value="-999" aria-label="first">|&lt;</button>
      <button value="-1" aria-label="back">&lt;</button><button value="1" aria-label="on">&gt;</button>
      <button value="999" aria-label="last">&gt;|</button></p>
    <input id="ply" type="range" min="0" aria-label="move number">
    <p id="overlays" class="row" role="group" aria-label="laid over the board">
      ${each(overlays, ([name, label]) => `<button value="${name}">${label}</button>`)}</p>
    <svg id="graph" role="img" aria-label="Black's chance to win, move by move" preserveAspectRatio="none"></svg>
    <p class="soft">Black's chance to win, move by move: 100 % at the top. Arrow keys step through the game.</p>`;
  let position = {size: 9, stones: ""}, ply = 0, lastPly = 0, cursor = -1, said;  // until there is one
  const board = $("board"), graph = $("graph"), step = number => go(Math.min(Math.max(0, number), lastPly));
  const draw = () => {
    for (const button of $("overlays").children) button.setAttribute("aria-pressed", shown.has(button.value));
    drawBoard(board, position, shown, cursor);
  };
  const placeIn = ({clientX, clientY}, svg) => {
    const {left, top, width, height} = svg.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  };
  $("ply").oninput = event => step(+event.target.value);
  graph.onclick = event => step(Math.round(lastPly * placeIn(event, graph)[0]));
  for (const button of element.querySelectorAll("button[aria-label]")) button.onclick = () => step(ply + +button.value);
  for (const button of $("overlays").children) button.onclick = () => {
    shown[shown.has(button.value) ? "delete" : "add"](button.value);
    draw();
  };
  document.addEventListener("keydown", event => {
    const number = {ArrowLeft: ply - 1, ArrowRight: ply + 1, Home: 0, End: lastPly}[event.key], {target} = event;
    const isMine = number !== undefined && !event.altKey && !["SELECT", "INPUT"].includes(target.tagName) && !(play && target === board);
    if (isMine) { play && event.preventDefault(); step(number); }  // the lessons scroll, too
  });
  const choose = point => {
    cursor = point;
    $("said").textContent = `${vertexOf(point, position.size)}, ${{".": "empty", X: "black", O: "white"}[position.stones[point]]}`;
    draw();
  };
  const playAt = point => { cursor = -1; play(point); };
  if (play) board.onmousedown = event => event.preventDefault();  // the arrow keys go on stepping through the game
  if (play) board.onclick = event => {
    const n = position.size, [column, row] = placeIn(event, board).map(share => Math.round(share * (n + MARGIN)) - 1), point = row * n + column;
    if (Math.min(row, column) < 0 || Math.max(row, column) >= n) return;
    if (event.pointerType === "touch" && n > 11 && cursor !== point) choose(point);  // and the second touch plays
    else playAt(point);
  };
  if (play) board.onkeydown = event => {
    const n = position.size, from = cursor < 0 ? (n + 1) * Math.floor(n / 2) : cursor;
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    const [row, column] = step ? [Math.floor(from / n) + step[0], from % n + step[1]] : [-1, -1];
    if (step && Math.min(row, column) >= 0 && Math.max(row, column) < n) choose(row * n + column);
    else if (cursor >= 0 && ["Enter", " "].includes(event.key)) playAt(cursor);
    if (step || ["Enter", " "].includes(event.key)) event.preventDefault();
  };
  draw();
  return (next, values, number, words) => {
    [position, ply, lastPly] = [next, number, values.length - 1];
    Object.assign($("ply"), {max: lastPly, value: ply});
    if (said !== words) $("said").textContent = said = words;  // once, for who hears it
    graph.setAttribute("viewBox", `0 0 ${Math.max(1, lastPly)} 100`);
    graph.innerHTML = `<path d="M0 50H${lastPly}"/><path class="now" d="M${ply} 0V100"/>
      <polyline points="${each(values, (black, i) => Number.isFinite(black) ? `${i},${100 - black} ` : "")}"/>`;
    draw();
  };
}
