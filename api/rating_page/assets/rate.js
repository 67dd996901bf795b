// The rater's page: shows one item at a time and sends what the rater says. It knows only what a rater may know.

const study = decodeURIComponent(location.pathname.split("/").pop());
const token = decodeURIComponent(location.hash.slice(1));
const root = `/v1/studies/${encodeURIComponent(study)}/rating`;
const byId = (id) => document.getElementById(id);
const sections = ["welcome", "judging", "done"];

// What is said where no answer of the service comes, by what was asked of it.
const unreached = {
  GET: "The service cannot be reached. Please load this page again.",
  POST: "The service cannot be reached. Please try again.",
  PUT: "The service cannot be reached: your answer may not have been taken. Please give it again.",
};

let item = null; // what is shown
let last = null; // what was judged before it, for a step back
let isBusy = false;

async function ask(method, path = "", body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body) headers["Content-Type"] = "application/json";
  const request = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
  const [answer, found] = await answered(root + path, request);
  if (!answer.ok) throw new Error(found?.detail ?? `The service answered ${answer.status}.`);
  return found;
}

async function answered(address, request) {
  try {
    const answer = await fetch(address, request);
    return [answer, await answer.json()];
  } catch {
    throw new Error(unreached[request.method]);
  }
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function open(name) {
  for (const section of sections) byId(section).hidden = section !== name;
}

function showProgress({ done, open: left }) {
  byId("progress").textContent = `${done} judged, ${left} left`;
}

function turn({ role, content }) {
  const line = document.createElement("li");
  const who = document.createElement("span");
  const words = document.createElement("span");
  who.className = "role";
  who.textContent = role;
  words.className = "text";
  words.textContent = content;
  line.append(who, words);
  return line;
}

function titled(title, ...parts) {
  const section = document.createElement("section");
  const heading = document.createElement("h2");
  heading.textContent = title;
  section.append(heading, ...parts);
  return section;
}

function response(side, number, text) {
  const words = document.createElement("div");
  words.className = "text";
  words.textContent = text;
  return titled(`Response ${side}, turn ${number}`, words);
}

// What the user said next, and both responses to it.
function laterTurn({ user, response_1, response_2 }, index) {
  const asked = document.createElement("ol");
  const both = document.createElement("div");
  asked.className = "asked";
  asked.append(turn({ role: "user", content: user }));
  both.className = "responses";
  both.append(response(1, index + 2, response_1), response(2, index + 2, response_2));
  return [titled("Then the user says", asked), both];
}

function show(next) {
  item = next;
  if (!item) return open("done");
  byId("prompt").replaceChildren(...item.prompt.map(turn));
  byId("response-1").textContent = item.response_1;
  byId("response-2").textContent = item.response_2;
  byId("later").replaceChildren(...item.later_turns.flatMap(laterTurn));
  byId("item-warning").textContent = item.content_warning ?? "";
  cover(Boolean(item.content_warning));
  byId("back").disabled = !last;
  open("judging");
  window.scrollTo(0, 0);
}

function cover(isCovered) {
  byId("cover").hidden = !isCovered;
  byId("item").hidden = isCovered;
}

async function doing(work) {
  if (isBusy) return;
  isBusy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
    say("");
  } catch (error) {
    say(error.message);
  } finally {
    isBusy = false;
    document.body.removeAttribute("aria-busy");
  }
}

async function next() {
  const found = await ask("POST", "/next");
  showProgress(found.progress);
  show(found.item);
}

const judge = (verdict) =>
  doing(async () => {
    await ask("PUT", `/items/${encodeURIComponent(item.id)}`, { verdict });
    last = item;
    await next();
  });

function back() {
  if (!last || isBusy) return;
  const earlier = last;
  last = null;
  show(earlier);
}

const canJudge = () => !byId("judging").hidden && item;
const isCovered = () => !byId("cover").hidden;

function press(key) {
  if (!byId("welcome").hidden) return key === "enter" && doing(next);
  if (key === "u") return back();
  if (!canJudge()) return undefined;
  if (key === "w" && isCovered()) return cover(false);
  const button = document.querySelector(`.verdict[data-key="${CSS.escape(key)}"]`);
  if (!button || (isCovered() && key !== "s")) return undefined;
  return judge(button.dataset.verdict);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.key === "Enter" && event.target instanceof HTMLElement && event.target.closest("button, summary")) return;
  press(event.key.toLowerCase());
});
for (const button of document.querySelectorAll(".verdict")) {
  button.addEventListener("click", () => judge(button.dataset.verdict));
}
byId("start").addEventListener("click", () => doing(next));
byId("uncover").addEventListener("click", () => cover(false));
byId("back").addEventListener("click", back);
byId("back-from-done").addEventListener("click", back);

await doing(async () => {
  if (!token) throw new Error("This address lacks the invitation behind #. Ask whoever invited you for the whole link.");
  const about = await ask("GET");
  showProgress(about.progress);
  if (about.is_closed) throw new Error("This study is closed. Thank you.");
  byId("guidelines").textContent = byId("guidelines-again").textContent = about.guidelines;
  byId("study-warning").textContent = about.content_warning ?? "";
  byId("study-warning").hidden = !about.content_warning;
  open("welcome");
});
