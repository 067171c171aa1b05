"use strict";
// The photo stays in this page; it is sent to the server that the page came from, with each box.

const SVG = "http://www.w3.org/2000/svg";
const CORNERS = [["left", "top"], ["right", "top"], ["right", "bottom"], ["left", "bottom"]];
const SIDES = ["x", "y", "width", "height"];
const SMALLEST = 0.02; // of the photo's shorter side: a box's least width and height
const PATIENCE = 250; // milliseconds from the last key to the next answer
const HANDLE = 8; // radius in pixels of the screen; a fat finger's is HANDLE + REACH
const REACH = 14;

const byId = (id) => document.getElementById(id);
let mostBytes = Infinity;
let file = null; // the photo
let answer = null; // of the server, for the box that it was asked
let box = null; // {x, y, width, height} in pixels of the photo
let shown = null; // index of the joint whose map lies over the photo; -1 for all; null for none
let asking = null; // AbortController of the question that is on its way
let waiting = 0; // timer

function make(parent, name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

// Questions and answers

async function openPhoto(chosen) {
  if (!chosen) return;
  byId("status").textContent = "";
  if (chosen.size > mostBytes) {
    say(`That file has more than ${mostBytes / 1e6} MB; reduce the photo first.`);
    return;
  }
  const address = URL.createObjectURL(chosen);
  const image = new Image();
  image.src = address;
  const readable = image.decode().then(() => true, () => false);
  const found = await ask(chosen, null);
  if (!found) return URL.revokeObjectURL(address);
  if (!(await readable)) {
    URL.revokeObjectURL(address);
    say("This browser cannot show that kind of image; take a JPEG, PNG or WebP.");
    return;
  }
  URL.revokeObjectURL(byId("image").src);
  byId("image").src = address;
  file = chosen;
  shown = null;
  byId("drop").hidden = true;
  byId("result").hidden = false;
  show(found);
}

// The server's answer for a photo and a box, or null where there is none or nobody waits for it.
async function ask(photo, where) {
  asking?.abort();
  const mine = (asking = new AbortController());
  const query = where ? "?box=" + SIDES.map((side) => where[side]).join(",") : "";
  const start = performance.now();
  byId("status").textContent = "Looking…";
  try {
    const response = await fetch("predict" + query, {
      method: "POST", body: photo, signal: mine.signal,
      headers: {"Content-Type": "application/octet-stream"},
    });
    const found = await response.json();
    if (mine.signal.aborted) return null;
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    say(response.ok ? "" : capital(found.error) + ".");
    byId("status").textContent = response.ok ? `${found.joints.length} joints in ${seconds} s` : "";
    return response.ok ? found : null;
  } catch (error) {
    if (mine.signal.aborted) return null;
    byId("status").textContent = "";
    say("No answer; is jaxpose demo still running?");
    return null;
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Ask for the box as it is now, a moment after it stopped moving.
function askSoon(delay) {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const found = await ask(file, box);
    if (found) show(found, box);
  }, delay);
}

// Drawing

function show(found, asked = null) {
  answer = found;
  const [width, height] = answer.size;
  byId("photo").style.setProperty("--ratio", width / height);
  byId("overlay").setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (!asked) box = Object.fromEntries(SIDES.map((side, i) => [side, answer.box[i]]));
  drawBox();
  drawSkeleton();
  listJoints();
  drawMap();
}

const threshold = () => byId("threshold").value / 100;

function showThreshold() {
  byId("threshold_text").textContent = `${byId("threshold").value} %`;
  if (!answer) return;
  drawSkeleton();
  listJoints();
}

// Pixels of the photo in one pixel of the screen.
const scale = () => answer.size[0] / Math.max(byId("overlay").clientWidth, 1);

function mixed(a, b) {
  const part = (color, i) => parseInt(color.slice(1 + 2 * i, 3 + 2 * i), 16);
  return `rgb(${[0, 1, 2].map((i) => (part(a, i) + part(b, i)) / 2).join(",")})`;
}

function drawSkeleton() {
  const {joints, limbs} = answer;
  const drawn = (i) => joints[i].confidence >= threshold();
  byId("limbs").replaceChildren();
  byId("dots").replaceChildren();
  if (!byId("skeleton").checked) return;
  for (const [a, b] of limbs) {
    if (!drawn(a) || !drawn(b)) continue;
    const ends = {x1: joints[a].x, y1: joints[a].y, x2: joints[b].x, y2: joints[b].y};
    make(byId("limbs"), "line", {...ends, class: "outline"});
    const stroke = mixed(joints[a].color, joints[b].color);
    make(byId("limbs"), "line", {...ends, class: "limb", stroke});
  }
  joints.forEach((joint, i) => {
    if (!drawn(i) && shown !== i) return;
    const kind = shown === i ? "dot chosen" : "dot";
    const place = {cx: joint.x, cy: joint.y, r: (shown === i ? 7 : 5) * scale()};
    const dot = make(byId("dots"), "circle", {...place, class: kind, fill: joint.color});
    make(dot, "title", {}).textContent = joint.name;
  });
}

function drawMap() {
  const map = byId("map");
  map.setAttribute("visibility", shown === null ? "hidden" : "visible");
  if (shown === null) return;
  SIDES.forEach((side, i) => map.setAttribute(side, answer.crop[i]));
  map.setAttribute("href", shown < 0 ? answer.part_maps : answer.joints[shown].map);
}

function listJoints() {
  const list = byId("joints");
  const everything = {name: "all part maps", map: answer.part_maps};
  const entries = [everything, ...answer.joints];
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach((joint, i) => {
    const button = list.children[i] ?? list.appendChild(newEntry(i - 1));
    button.querySelector("img").src = joint.map;
    button.querySelector(".name").textContent = joint.name;
    button.setAttribute("aria-pressed", shown === i - 1);
    if (i === 0) return;
    button.querySelector(".chip").style.background = joint.color;
    button.querySelector("i").style.setProperty("--share", `${100 * joint.confidence}%`);
    button.querySelector(".number").textContent = `${Math.round(100 * joint.confidence)} %`;
    button.classList.toggle("faint", joint.confidence < threshold());
  });
}

function newEntry(index) {
  const button = document.createElement("button");
  button.type = "button";
  button.innerHTML = index < 0
    ? '<img alt=""><span class="name"></span>'
    : '<img alt=""><span><span class="chip"></span><span class="name"></span></span>' +
      '<span class="share"><i></i><span class="number"></span></span>';
  button.addEventListener("click", () => {
    shown = shown === index ? null : index;
    drawMap();
    drawSkeleton();
    listJoints();
  });
  return button;
}

// The box

function drawBox() {
  const unit = scale();
  for (const side of SIDES) {
    byId("box").setAttribute(side, box[side]);
    byId(`box_${side}`).value = Math.round(box[side]);
  }
  CORNERS.forEach(([horizontal, vertical], i) => {
    const x = box.x + (horizontal === "right" ? box.width : 0);
    const y = box.y + (vertical === "bottom" ? box.height : 0);
    const [reach, handle] = byId("handles").children[i].children;
    for (const [circle, radius] of [[reach, HANDLE + REACH], [handle, HANDLE]]) {
      circle.setAttribute("cx", x);
      circle.setAttribute("cy", y);
      circle.setAttribute("r", radius * unit);
    }
  });
}

// Move the whole box, or one corner of it, by pixels of the photo; part of it stays on the photo.
function moved(start, corner, dx, dy) {
  const [width, height] = answer.size;
  const least = SMALLEST * Math.min(width, height);
  const kept = (value, low, high) => Math.min(Math.max(value, low), high);
  if (!corner) {
    return {
      ...start,
      x: kept(start.x + dx, least - start.width, width - least),
      y: kept(start.y + dy, least - start.height, height - least),
    };
  }
  const axis = (place, length, left, change, limit) => {
    if (!left) return [place, kept(length + change, Math.max(least, least - place), 2 * limit)];
    const end = place + length;
    const from = kept(place + change, end - 2 * limit, Math.min(end, limit) - least);
    return [from, end - from];
  };
  const [x, w] = axis(start.x, start.width, corner[0] === "left", dx, width);
  const [y, h] = axis(start.y, start.height, corner[1] === "top", dy, height);
  return {x, y, width: w, height: h};
}

function movable(element, corner) {
  element.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const start = {...box, left: event.clientX, top: event.clientY};
    element.setPointerCapture(event.pointerId);
    const follow = (move) => {
      const {left, top, ...from} = start;
      const unit = scale();
      box = moved(from, corner, (move.clientX - left) * unit, (move.clientY - top) * unit);
      drawBox();
    };
    element.addEventListener("pointermove", follow);
    element.addEventListener("lostpointercapture", () => {
      element.removeEventListener("pointermove", follow);
      askSoon(0);
    }, {once: true});
  });
  element.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 0.05 : 0.01) * Math.min(...answer.size);
    const [dx, dy] = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    box = moved(box, corner, dx, dy);
    drawBox();
    askSoon(PATIENCE);
  });
}

function start() {
  movable(byId("box"), null);
  for (const corner of CORNERS) {
    const group = make(byId("handles"), "g", {});
    group.style.cursor = (corner[0] === "left") === (corner[1] === "top") ? "nwse-resize" : "nesw-resize";
    make(group, "circle", {fill: "transparent", "pointer-events": "all"});
    const label = `Corner ${corner[1]} ${corner[0]}: move it with the arrow keys`;
    make(group, "circle", {class: "handle", tabindex: 0, role: "button", "aria-label": label});
    group.style.touchAction = "none";
    movable(group, corner);
  }
  for (const side of SIDES) {
    byId(`box_${side}`).addEventListener("change", (event) => {
      const value = event.target.valueAsNumber;
      const positive = side === "x" || side === "y" || value > 0;
      if (Number.isFinite(value) && positive) {
        box = {...box, [side]: value};
        askSoon(0);
      }
      drawBox();
    });
  }
  byId("file").addEventListener("change", (event) => {
    openPhoto(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("whole").addEventListener("click", async () => {
    clearTimeout(waiting);
    const found = await ask(file, null);
    if (found) show(found);
  });
  byId("skeleton").addEventListener("change", drawSkeleton);
  byId("threshold").addEventListener("input", showThreshold);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    openPhoto(event.dataTransfer.files[0]);
  });
  new ResizeObserver(() => {
    if (!answer) return;
    drawBox();
    drawSkeleton();
  }).observe(byId("photo"));
  fetch("about").then((response) => response.json()).then((about) => {
    mostBytes = about.most_bytes;
    byId("threshold").value = 100 * about.threshold;
    showThreshold();
    const from = about.checkpoint ? ` from ${about.checkpoint}` : "";
    byId("about").textContent =
      `Network${from}: ${about.joints} joints, crops of ${about.image_size} × ${about.image_size} pixels.`;
  }, () => say("No answer; is jaxpose demo still running?"));
}

start();
