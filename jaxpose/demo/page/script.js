"use strict";
// The page keeps the photo, and sends it to its own server with each request.

const SVG = "http://www.w3.org/2000/svg";
const CORNERS = [["left", "top"], ["right", "top"], ["right", "bottom"], ["left", "bottom"]];
const SIDES = ["x", "y", "width", "height"];
const SMALLEST = 0.02; // minimum side of a box, as a fraction of the photo's shorter side
const PATIENCE = 250; // milliseconds between the last key press and the next request
const HANDLE = 8; // radius in screen pixels; touch adds REACH
const REACH = 14;
const COLORS = [
  "#4da3ff", "#ff9440", "#3ddc84", "#d783ff", "#ffd83d", "#ff6b9a", "#35e0e0", "#b6e34f",
]; // of persons, in order
const SAVED_SIDE = 4096; // longer side in pixels that every browser's canvas supports
const SAVED_UNITS = 900; // width in screen pixels for which a saved image is drawn

const byId = (id) => document.getElementById(id);
let maxBytes = Infinity;
let file = null; // the photo
let size = null; // [width, height] of the upright photo
let limbs = []; // pairs of indices into a person's joints
// Array of {box: {x, y, width, height} in pixels of the photo, color, prediction: the server's
// prediction or null, request: its AbortController}.
let persons = [];
let chosen = null; // one of `persons`, or null
let limit = 1; // maximum number of persons in the last search
let shown = null; // index of the joint whose map is shown on the photo; -1 for all; null for none
let search = null; // AbortController of the request that finds people
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

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const percent = (value) => `${Math.round(100 * value)} %`;
const sides = (box) => SIDES.map((side) => box[side]).join(",");

// Requests

async function openPhoto(opened, isSample = false) {
  if (!opened) return;
  byId("status").textContent = "";
  if (opened.size > maxBytes) {
    say(`The file is larger than ${maxBytes / 1e6} MB; resize the photo first.`);
    return;
  }
  const address = URL.createObjectURL(opened);
  const image = new Image();
  image.src = address;
  const readable = image.decode().then(() => true, () => false);
  const found = await find(opened);
  if (!found) return URL.revokeObjectURL(address);
  if (!(await readable)) {
    URL.revokeObjectURL(address);
    say("This browser cannot show this kind of image; use a JPEG, PNG or WebP image.");
    return;
  }
  URL.revokeObjectURL(byId("image").src);
  byId("image").src = address;
  file = opened;
  byId("start").hidden = true;
  byId("result").hidden = false;
  byId("credit").hidden = !isSample;
  showFound(found);
}

// Find the people in a photo; null if the request fails or a newer one replaces it.
async function find(photo) {
  search?.abort();
  persons.forEach((person) => person.request?.abort());
  clearTimeout(waiting);
  search = new AbortController();
  const most = byId("max_persons").value || 1;
  const found = await ask(photo, {max_persons: most}, search.signal);
  if (found) limit = most;
  return found;
}

async function findAgain() {
  const found = await find(file);
  if (found) showFound(found);
}

// Predict the person in a box, after the box has stopped moving.
function askSoon(person, delay) {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    person.request?.abort();
    person.request = new AbortController();
    const found = await ask(file, {box: sides(person.box)}, person.request.signal);
    if (!found || !persons.includes(person)) return;
    person.prediction = found.persons[0];
    person.found = null;
    drawAll();
  }, delay);
}

async function ask(photo, query, signal) {
  const start = performance.now();
  byId("status").textContent = "Predicting…";
  const response = await post("predict", photo, query, signal);
  if (signal.aborted) return null;
  if (!response) {
    byId("status").textContent = "";
    return null;
  }
  const found = await response.json();
  if (signal.aborted) return null;
  const seconds = ((performance.now() - start) / 1000).toFixed(2);
  const count = found.persons.length;
  byId("status").textContent = `${count} ${count === 1 ? "person" : "persons"} in ${seconds} s`;
  return found;
}

// Return the server's response, or show an error message and return null.
async function post(address, photo, query, signal) {
  try {
    const response = await fetch(`${address}?${new URLSearchParams(query)}`, {
      method: "POST", body: photo, signal,
      headers: {"Content-Type": "application/octet-stream"},
    });
    if (response.ok) {
      say("");
      return response;
    }
    say(capital((await response.json()).error) + ".");
  } catch (error) {
    if (!signal?.aborted) say("No response; is jaxpose demo still running?");
  }
  return null;
}

// Persons

function showFound(found) {
  size = found.size;
  limbs = found.limbs;
  byId("photo").style.setProperty("--ratio", size[0] / size[1]);
  byId("overlay").setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  persons = [];
  found.persons.forEach((prediction, index) => {
    const box = Object.fromEntries(SIDES.map((side, i) => [side, prediction.box[i]]));
    addPerson(box, prediction).found = index;
  });
  shown = null;
  choose(persons[0] ?? null);
  if (!persons.length) say("No person was found. Add a box and move it to a person.");
}

function addPerson(box, prediction) {
  const color = COLORS.find((color) => !persons.some((person) => person.color === color));
  const fallback = COLORS[persons.length % COLORS.length];
  const person = {box, prediction, found: null, color: color ?? fallback};
  persons.push(person);
  return person;
}

function choose(person) {
  chosen = person;
  drawAll();
}

function addBox() {
  say("");
  const [width, height] = size;
  const box = {x: width / 4, y: height / 8, width: width / 2, height: (3 * height) / 4};
  choose(addPerson(box, null));
  askSoon(chosen, 0);
}

function removeChosen() {
  chosen.request?.abort();
  const place = persons.indexOf(chosen);
  persons.splice(place, 1);
  choose(persons[Math.min(place, persons.length - 1)] ?? null);
}

// Drawing

const threshold = () => byId("threshold").value / 100;
const isDrawn = (joint) => joint.confidence >= threshold();
const label = (person) =>
  `${persons.indexOf(person) + 1}${person.prediction ? ` · ${percent(person.prediction.score)}` : ""}`;

// Number of photo pixels per screen pixel.
const scale = () => size[0] / Math.max(byId("overlay").clientWidth, 1);

function drawAll() {
  drawBoxes();
  drawPoses();
  drawMap();
  listPersons();
  listJoints();
}

function mixed(a, b) {
  const part = (color, i) => parseInt(color.slice(1 + 2 * i, 3 + 2 * i), 16);
  return `rgb(${[0, 1, 2].map((i) => (part(a, i) + part(b, i)) / 2).join(",")})`;
}

// Lines {a, b, color} and dots {joint, color} to draw for a person, in pixels of the photo.
// A single person has the colors of the joints; several persons have one color each.
function drawing(person) {
  const joints = person.prediction?.joints ?? [];
  const alone = persons.length === 1;
  const lines = limbs
    .filter(([a, b]) => joints.length && isDrawn(joints[a]) && isDrawn(joints[b]))
    .map(([a, b]) => ({
      a: joints[a], b: joints[b],
      color: alone ? mixed(joints[a].color, joints[b].color) : person.color,
    }));
  const dots = joints
    .filter((joint, i) => isDrawn(joint) || (person === chosen && shown === i))
    .map((joint) => ({joint, color: alone || person === chosen ? joint.color : person.color}));
  return {lines, dots};
}

// Position of a person's number: above the highest joint that is drawn, or the top of the box.
function labelBox(person, unit) {
  const [width, height] = [(7.5 * label(person).length + 10) * unit, 20 * unit];
  const joints = (person.prediction?.joints ?? []).filter(isDrawn);
  const edge = {x: person.box.x + person.box.width / 2, y: person.box.y};
  const top = joints.reduce((best, joint) => (joint.y < best.y ? joint : best), joints[0] ?? edge);
  const x = Math.min(Math.max(top.x - width / 2, 0), size[0] - width);
  const y = Math.min(Math.max(top.y - 1.6 * height, 0), size[1] - height);
  return {x, y, width, height};
}

function drawPoses() {
  const unit = scale();
  byId("poses").replaceChildren();
  byId("labels").replaceChildren();
  if (!byId("skeleton").checked) return;
  for (const person of persons) {
    const group = make(byId("poses"), "g", {class: "pose"});
    const {lines, dots} = drawing(person);
    for (const {a, b, color} of lines) {
      const ends = {x1: a.x, y1: a.y, x2: b.x, y2: b.y};
      make(group, "line", {...ends, class: "outline"});
      make(group, "line", {...ends, class: "limb", stroke: color});
    }
    for (const {joint, color} of dots) {
      const isShown = person === chosen && person.prediction.joints[shown] === joint;
      const place = {cx: joint.x, cy: joint.y, r: (isShown ? 7 : 5) * unit};
      const dot = make(group, "circle", {...place, class: isShown ? "dot chosen" : "dot", fill: color});
      make(dot, "title", {}).textContent = joint.name;
    }
    const place = labelBox(person, unit);
    make(byId("labels"), "rect", {...place, rx: 4 * unit, fill: person.color});
    const middle = {x: place.x + place.width / 2, y: place.y + 0.72 * place.height};
    const text = make(byId("labels"), "text", {...middle, "font-size": 13.5 * unit});
    text.textContent = label(person);
  }
}

function drawMap() {
  const map = byId("map");
  const prediction = chosen?.prediction;
  const isShown = prediction && shown !== null;
  map.setAttribute("visibility", isShown ? "visible" : "hidden");
  if (!isShown) return;
  SIDES.forEach((side, i) => map.setAttribute(side, prediction.crop[i]));
  map.setAttribute("href", shown < 0 ? prediction.part_maps : prediction.joints[shown].map);
}

function listPersons() {
  const list = byId("persons");
  const focused = [...list.children].indexOf(document.activeElement);
  list.replaceChildren(...persons.map((person) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label(person);
    button.style.setProperty("--color", person.color);
    button.setAttribute("aria-pressed", person === chosen);
    button.setAttribute("aria-label", `Person ${label(person)}`);
    button.addEventListener("click", () => choose(person));
    return button;
  }));
  list.children[focused]?.focus();
  byId("remove").disabled = byId("save_json").disabled = !chosen;
  byId("numbers").disabled = !chosen;
}

function listJoints() {
  const list = byId("joints");
  byId("chosen").hidden = !chosen?.prediction;
  if (!chosen?.prediction) return;
  const everything = {name: "all part maps", map: chosen.prediction.part_maps};
  const entries = [everything, ...chosen.prediction.joints];
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach((joint, i) => {
    const button = list.children[i] ?? list.appendChild(newEntry(i - 1));
    button.querySelector("img").src = joint.map;
    button.querySelector(".name").textContent = joint.name;
    button.setAttribute("aria-pressed", shown === i - 1);
    if (i === 0) return;
    button.querySelector(".chip").style.background = joint.color;
    button.querySelector("i").style.setProperty("--confidence", `${100 * joint.confidence}%`);
    button.querySelector(".number").textContent = percent(joint.confidence);
    button.classList.toggle("faint", !isDrawn(joint));
  });
}

function newEntry(index) {
  const button = document.createElement("button");
  button.type = "button";
  button.innerHTML = index < 0
    ? '<img alt=""><span class="name"></span>'
    : '<img alt=""><span><span class="chip"></span><span class="name"></span></span>' +
      '<span class="confidence"><i></i><span class="number"></span></span>';
  button.addEventListener("click", () => {
    shown = shown === index ? null : index;
    drawMap();
    drawPoses();
    listJoints();
  });
  return button;
}

// Boxes

function drawBoxes() {
  const unit = scale();
  byId("frame").style.display = chosen ? "" : "none";
  byId("others").replaceChildren();
  for (const person of persons) {
    if (person === chosen) continue;
    const rect = make(byId("others"), "rect", {
      ...person.box, class: "other", stroke: person.color, tabindex: 0, role: "button",
      "aria-label": `Choose person ${label(person)}`,
    });
    rect.addEventListener("click", () => choose(person));
    rect.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(person);
      byId("box").focus();
    });
  }
  if (!chosen) return;
  const box = chosen.box;
  for (const side of SIDES) {
    byId("box").setAttribute(side, box[side]);
    byId(`box_${side}`).value = Math.round(box[side]);
  }
  CORNERS.forEach(([horizontal, vertical], i) => {
    // A corner outside of the photo has its handle at the edge, where it can be reached.
    const x = within(box.x + (horizontal === "right" ? box.width : 0), 0, size[0]);
    const y = within(box.y + (vertical === "bottom" ? box.height : 0), 0, size[1]);
    const [reach, handle] = byId("handles").children[i].children;
    for (const [circle, radius] of [[reach, HANDLE + REACH], [handle, HANDLE]]) {
      circle.setAttribute("cx", x);
      circle.setAttribute("cy", y);
      circle.setAttribute("r", radius * unit);
    }
  });
}

function within(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// Move the box or one of its corners, in pixels of the photo; part of the box stays on the photo.
function moved(start, corner, dx, dy) {
  const [width, height] = size;
  const least = SMALLEST * Math.min(width, height);
  if (!corner) {
    return {
      ...start,
      x: within(start.x + dx, least - start.width, width - least),
      y: within(start.y + dy, least - start.height, height - least),
    };
  }
  const axis = (place, length, left, change, limit) => {
    if (!left) return [place, within(length + change, Math.max(least, least - place), 2 * limit)];
    const end = place + length;
    const from = within(place + change, end - 2 * limit, Math.min(end, limit) - least);
    return [from, end - from];
  };
  const [x, w] = axis(start.x, start.width, corner[0] === "left", dx, width);
  const [y, h] = axis(start.y, start.height, corner[1] === "top", dy, height);
  return {x, y, width: w, height: h};
}

// The box with one corner moved to where its handle is: onto the photo.
function reached(box, [horizontal, vertical]) {
  const axis = (place, length, first, limit) => {
    const [start, end] = [place, place + length];
    return first ? [within(start, 0, limit), end] : [start, within(end, 0, limit)];
  };
  const [left, right] = axis(box.x, box.width, horizontal === "left", size[0]);
  const [top, bottom] = axis(box.y, box.height, vertical === "top", size[1]);
  return {x: left, y: top, width: right - left, height: bottom - top};
}

function movable(element, corner) {
  element.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const person = chosen;
    const [before, left, top] = [person.box, event.clientX, event.clientY];
    const start = corner ? reached(before, corner) : before;
    element.setPointerCapture(event.pointerId);
    const follow = (move) => {
      const unit = scale();
      person.box = moved(start, corner, (move.clientX - left) * unit, (move.clientY - top) * unit);
      drawBoxes();
    };
    element.addEventListener("pointermove", follow);
    element.addEventListener("lostpointercapture", () => {
      element.removeEventListener("pointermove", follow);
      if (person.box !== before) askSoon(person, 0);
    }, {once: true});
  });
  element.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 0.05 : 0.01) * Math.min(...size);
    const [dx, dy] = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    chosen.box = moved(chosen.box, corner, dx, dy);
    drawBoxes();
    askSoon(chosen, PATIENCE);
  });
}

// Saving

function download(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = file.name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Draw the photo at full size with the skeletons and numbers as shown on the page.
function saveImage() {
  const reduced = Math.min(1, SAVED_SIDE / Math.max(...size));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = size.map((side) => Math.round(reduced * side));
  const context = canvas.getContext("2d");
  const unit = Math.max(...size) / SAVED_UNITS;
  context.scale(reduced, reduced);
  context.drawImage(byId("image"), 0, 0, ...size);
  context.lineCap = "round";
  const stroke = (width, style) => {
    context.lineWidth = width * unit;
    context.strokeStyle = style;
    context.stroke();
  };
  const drawn = byId("skeleton").checked ? persons : [];
  for (const person of drawn) {
    const {lines, dots} = drawing(person);
    for (const {a, b, color} of lines) {
      context.beginPath();
      context.moveTo(a.x, a.y);
      context.lineTo(b.x, b.y);
      stroke(7, "rgb(0 0 0 / 0.55)");
      stroke(4, color);
    }
    for (const {joint, color} of dots) {
      context.beginPath();
      context.arc(joint.x, joint.y, 5 * unit, 0, 2 * Math.PI);
      context.fillStyle = color;
      context.fill();
      stroke(1.5, "rgb(0 0 0 / 0.55)");
    }
  }
  context.font = `600 ${13.5 * unit}px system-ui, sans-serif`;
  context.textAlign = "center";
  for (const person of drawn) {
    const {x, y, width, height} = labelBox(person, unit);
    context.fillStyle = person.color;
    context.fillRect(x, y, width, height);
    context.fillStyle = "#000";
    context.fillText(label(person), x + width / 2, y + 0.72 * height);
  }
  canvas.toBlob((blob) => download(blob, "_pose.jpg"), "image/jpeg", 0.92);
}

async function saveJson() {
  const found = persons.filter((person) => person.found !== null).map((person) => person.found);
  const query = new URLSearchParams({
    found, max_persons: limit, min_confidence: threshold(), file_name: file.name,
  });
  for (const person of persons) if (person.found === null) query.append("box", sides(person.box));
  const response = await post("keypoints", file, query);
  if (response) download(await response.blob(), "_keypoints.json");
}

function start() {
  movable(byId("box"), null);
  for (const corner of CORNERS) {
    const group = make(byId("handles"), "g", {});
    group.style.cursor = (corner[0] === "left") === (corner[1] === "top") ? "nwse-resize" : "nesw-resize";
    make(group, "circle", {fill: "transparent", "pointer-events": "all"});
    const text = `Corner ${corner[1]} ${corner[0]}: move it with the arrow keys`;
    make(group, "circle", {class: "handle", tabindex: 0, role: "button", "aria-label": text});
    group.style.touchAction = "none";
    movable(group, corner);
  }
  for (const side of SIDES) {
    byId(`box_${side}`).addEventListener("change", (event) => {
      const value = event.target.valueAsNumber;
      const positive = side === "x" || side === "y" || value > 0;
      if (Number.isFinite(value) && positive) {
        chosen.box = {...chosen.box, [side]: value};
        askSoon(chosen, 0);
      }
      drawBoxes();
    });
  }
  byId("file").addEventListener("change", (event) => {
    openPhoto(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("sample").addEventListener("click", async () => {
    const response = await fetch("sample.jpg");
    openPhoto(new File([await response.blob()], "sample.jpg", {type: "image/jpeg"}), true);
  });
  byId("find").addEventListener("click", findAgain);
  byId("max_persons").addEventListener("change", (event) => {
    if (!event.target.checkValidity() || !event.target.value) event.target.value = 1;
    findAgain();
  });
  byId("add").addEventListener("click", addBox);
  byId("remove").addEventListener("click", removeChosen);
  byId("save_image").addEventListener("click", saveImage);
  byId("save_json").addEventListener("click", saveJson);
  byId("skeleton").addEventListener("change", drawPoses);
  byId("threshold").addEventListener("input", () => {
    showThreshold();
    drawPoses();
    listJoints();
  });
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
    if (!size) return;
    drawBoxes();
    drawPoses();
  }).observe(byId("photo"));
  fetch("about").then((response) => response.json()).then((about) => {
    maxBytes = about.max_bytes;
    byId("threshold").value = 100 * about.threshold;
    byId("max_persons").value = about.max_persons;
    showThreshold();
    const from = about.checkpoint ? ` from ${about.checkpoint}` : "";
    byId("about").textContent =
      `Network${from}: ${about.joints} joints, crops of ${about.image_size} × ${about.image_size} pixels.`;
  }, () => say("No response; is jaxpose demo still running?"));
}

function showThreshold() {
  byId("threshold_text").textContent = `${byId("threshold").value} %`;
}

start();
