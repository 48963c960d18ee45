// The demo page of `headcount dev`. Who is there comes from the client library, /headcount.js; this is the page.

const FRAMES_MAX = 50;
const FRAME_CHARS_MAX = 2000;
const TYPING_MS = 2500;
const GONE_MAX = 5;
const CALL_MS = 10_000;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const me = query.get('user') || remembered(localStorage, 'headcount.user', () => `guest-${Math.random().toString(36).slice(2, 10)}`);
const rows = new Map();
const gone = new Map(); // by user, in the order in which they left
const order = new Intl.Collator().compare;
let room = null; // while in one
let typing = false;
let typingTimer, countdown;

function remembered(storage, key, make) {
  if (!storage.getItem(key)) storage.setItem(key, make());
  return storage.getItem(key);
}

async function getToken() {
  const response = await fetch('/dev/token', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, signal: AbortSignal.timeout(CALL_MS),
    body: JSON.stringify({ user: me, name: $('name').value.trim() }),
  });
  if (response.ok) return (await response.json()).token;
  const problem = await response.json().catch(() => ({}));
  const text = problem.detail ?? problem.title ?? `the server answered ${response.status}`;
  throw Object.assign(new Error(text), { final: response.status === 400 }); // asking again would not help
}

function enter() {
  const name = $('room').value;
  if (!query.has('user')) localStorage.setItem('headcount.name', $('name').value.trim());
  else query.set('name', $('name').value.trim());
  query.set('room', name);
  history.replaceState(null, '', `?${query}`);
  $('problem').textContent = '';
  $('here').textContent = name;
  $('status').value = sessionStorage.getItem('headcount.status') ?? 'online';
  $('again').href = location.href;
  show(true);
  drawRoster([]);
  drawLine({ state: 'connecting' });
  const client = headcount({ token: getToken });
  room = client.join(name, { status: $('status').value, state: {} });
  room.on('change', ({ members, count, left }) => {
    drawRoster(members, count);
    drawGone(members, left);
  });
  room.on('line', drawLine);
  room.on('frame', drawFrame);
  room.on('end', ({ reason, problem }) => {
    client.close();
    exit(reason === 'kicked' ? 'You were removed from the room.' : problem?.message);
  });
}

function exit(problem = '') {
  room = null;
  typing = false;
  clearInterval(countdown);
  clearTimeout(typingTimer);
  for (const key of ['room', 'name']) query.delete(key);
  history.replaceState(null, '', query.size ? `?${query}` : location.pathname);
  document.title = 'headcount';
  $('problem').textContent = problem;
  $('typing').value = '';
  gone.clear();
  $('gone').replaceChildren();
  show(false);
}

function show(present) {
  $('join').hidden = present;
  $('present').hidden = !present;
  (present ? $('heading') : $('name')).focus();
}

// All that others chose goes through here: as text and attributes, never as HTML.
function element(tag, className, text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function drawRoster(members, count = null) {
  const list = $('members');
  const ids = new Set(members.map(({ id }) => id));
  for (const [id, { item }] of rows) {
    if (!ids.has(id)) { item.remove(); rows.delete(id); }
  }
  const before = (a, b) => (b.id === me) - (a.id === me) || order(a.name, b.name) || order(a.id, b.id);
  [...members].sort(before).forEach((member, index) => {
    if (!rows.has(member.id)) rows.set(member.id, { item: element('li', '') });
    const row = rows.get(member.id);
    if (row.member !== member) drawMember(row.item, member);
    row.member = member;
    if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
  });
  const text = count === null ? '' : `${count} here`;
  if ($('count').textContent !== text) $('count').textContent = text;
  $('more').textContent = count > members.length ? `and ${count - members.length} more` : '';
  document.title = count === null ? 'headcount' : `(${count}) ${$('here').textContent} · headcount`;
  const guest = ['Ada', 'Grace', 'Edsger', 'Barbara', 'Alan'].find((name) => !ids.has(name.toLowerCase())) ?? 'Donald';
  $('other').href = `?${new URLSearchParams({ user: guest.toLowerCase(), name: guest, room: $('room').value })}`;
  $('other').firstElementChild.textContent = guest;
}

function drawMember(item, { id, name, avatar_url, status, state, sessions }) {
  item.dataset.userId = id;
  const portrait = element('span', 'portrait');
  portrait.append(avatar(id, name, avatar_url), element('span', `dot ${status}`));
  portrait.ariaHidden = 'true';
  const title = element('span', 'title');
  title.append(element('bdi', 'name', name));
  if (id === me) title.append(' ', element('span', 'tag', 'you'));
  // As of this member's last event: a tab more or less is none.
  if (sessions > 1) title.append(' ', element('span', 'tag quiet', `${sessions} tabs`));
  const below = element('span', 'below', { online: 'online', idle: 'idle', dnd: 'do not disturb' }[status]);
  if (state?.typing === true) below.append(', ', element('em', '', 'typing…'));
  item.replaceChildren(portrait, title, below);
}

// Those who left while this page was here, newest first, until they come back.
function drawGone(members, left) {
  const at = new Date().toLocaleTimeString();
  for (const { id, name, reason } of left) {
    gone.delete(id);
    if (name) gone.set(id, { name, text: `${{ expired: 'lost', kicked: 'removed' }[reason] ?? 'left'}, last seen ${at}` });
  }
  for (const { id } of members) gone.delete(id);
  while (gone.size > GONE_MAX) gone.delete(gone.keys().next().value);
  $('gone').replaceChildren(...[...gone.values()].reverse().map(({ name, text }) => {
    const item = element('li', '');
    item.append(element('bdi', '', name), ' ', element('span', '', text));
    return item;
  }));
}

function avatar(id, name, url) {
  const letters = name.split(/\s+/).map((word) => word.match(/[\p{L}\p{N}]/u)?.[0] ?? '');
  const initials = element('span', 'avatar', (letters.shift() + (letters.pop() ?? '')).toUpperCase() || '?');
  const hash = [...id].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16777619), 2166136261);
  initials.style.setProperty('--hue', (hash >>> 0) % 360);
  if (!/^(https:|data:image\/)/.test(url ?? '')) return initials; // What the page's policy would let through.
  const image = element('img', 'avatar');
  Object.assign(image, { alt: '', referrerPolicy: 'no-referrer', onerror: () => image.replaceWith(initials), src: url });
  return image;
}

function drawLine({ state, until }) {
  const seconds = () => Math.max(0, Math.ceil((until - Date.now()) / 1000));
  const texts = {
    connecting: () => 'connecting…',
    live: () => 'live',
    stale: () => 'stale: the server cannot reach its database just now',
    reconnecting: () => `reconnecting in ${seconds()} s`,
  };
  const draw = () => { $('line').textContent = texts[state](); };
  clearInterval(countdown);
  if (state === 'reconnecting') countdown = setInterval(draw, 250);
  $('line').dataset.state = state;
  draw();
}

function drawFrame({ event, ...data }) {
  const raw = `event: ${event}\ndata: ${JSON.stringify(data)}`;
  const cut = raw.length - FRAME_CHARS_MAX;
  const item = element('li', '');
  const text = cut > 0 ? `${raw.slice(0, FRAME_CHARS_MAX)}… and ${cut} more characters` : raw;
  item.append(element('time', '', new Date().toLocaleTimeString()), element('pre', '', text));
  $('frames').prepend(item);
  $('frames').children[FRAMES_MAX]?.remove();
}

function setTyping(now) {
  clearTimeout(typingTimer);
  if (now) typingTimer = setTimeout(() => setTyping(false), TYPING_MS);
  if (now !== typing) room?.update(now ? { typing: true } : {});
  typing = now;
}

$('name').value = query.get('name') ?? query.get('user') ?? localStorage.getItem('headcount.name') ?? '';
$('room').value = query.get('room') ?? 'lobby';
$('join').addEventListener('submit', (event) => { event.preventDefault(); enter(); });
$('leave').addEventListener('click', () => room?.leave());
$('status').addEventListener('change', ({ target }) => {
  sessionStorage.setItem('headcount.status', target.value);
  room?.setStatus(target.value);
});
$('typing').addEventListener('input', ({ target }) => setTyping(target.value !== ''));
$('typing').addEventListener('blur', () => setTyping(false));
for (const button of document.querySelectorAll('[data-room]')) {
  button.addEventListener('click', () => { $('room').value = button.dataset.room; });
}

// A link that says who comes, or where a known name goes, is as good as a filled form.
if ($('name').value && (query.has('name') || query.has('room'))) $('join').requestSubmit();
else $('name').focus();
