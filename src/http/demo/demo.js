// The demo page of `headcount dev`, in two parts. The first keeps a session present in a room and follows who else
// is there; it knows nothing of the page, and a client library can take its place. The second is the page.

// ---- Part one: presence ---------------------------------------------------------------------------------------

const WATCHDOG_MS = 40_000; // `sync` comes every 15 s: two were missed, and then some.
const CALL_MS = 10_000; // Below the lease of 45 s, so that a call that hangs leaves time for others.
const BACKOFF_MAX_MS = 30_000;
const REST_MS = 5_000;

// Splits an event stream into frames `{event, id, data, retry, raw}`. A chunk may end anywhere, between a CR and its LF too.
function frameParser(onFrame) {
  let rest = '';
  let afterCr = false;
  let frame = { raw: [] };
  return (chunk) => {
    if (!chunk) return;
    const text = afterCr && chunk[0] === '\n' ? chunk.slice(1) : chunk;
    afterCr = chunk.endsWith('\r');
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (frame.raw.length) onFrame({ ...frame, raw: frame.raw.join('\n') });
        frame = { raw: [] };
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
      frame.raw.push(line);
      if (field === 'data' && frame.data !== undefined) frame.data += `\n${value}`;
      else if (['event', 'id', 'data', 'retry'].includes(field)) frame[field] = value;
    }
  };
}

async function problemOf(response) {
  const { detail, title, code } = await response.json().catch(() => ({}));
  const retryMs = Number(response.headers.get('Retry-After')) * 1000 || undefined;
  const mayPass = response.status >= 500 || [408, 409, 425, 429].includes(response.status);
  const text = detail ?? title ?? `the server answered ${response.status}`;
  return Object.assign(new Error(text), { code, status: response.status, retryMs, final: !mayPass });
}

// One session in one room. `own` is the status and state it has there. `on` is told of:
//   roster(members, count)   who is in the room: a Map by id, which `count` exceeds in very large rooms
//   line(state, until)       connecting | live | stale | reconnecting (at the time `until`) | resting
//   frame(raw)               every frame as it came
//   ended(reason)            this session is out, and will not come back by itself
class Presence {
  members = new Map();
  joined = false;
  active = false;
  failures = 0;
  retryMs = 2000;
  queue = Promise.resolve();
  life = new AbortController();

  constructor({ user, room, session, nextSeq, getToken, own, on }) {
    Object.assign(this, { user, session, nextSeq, getToken, own, on });
    this.path = `/v1/rooms/${encodeURIComponent(room)}`;
    const options = { signal: this.life.signal };
    document.addEventListener('visibilitychange', () => { this.beat(); this.look(); }, options);
    addEventListener('online', () => this.look(), options);
    this.look();
    this.run();
  }

  get ended() { return this.life.signal.aborted; }

  // Sets part of what this session shows of itself. Changes that queue up behind a slow call are sent as one.
  async update(change) {
    Object.assign(this.own, change);
    if (this.updating) return; // The one in the queue will carry it.
    this.updating = true;
    const body = () => { this.updating = false; return this.own; };
    await this.command('PATCH', 'presence', body).catch(() => { this.joined = false; this.beat(); }); // A join carries it too.
  }

  // The person did something. Reported by the next heartbeat, at once if others see them idle.
  touch() {
    const first = !this.active;
    this.active = true;
    if (first && this.members.get(this.user)?.status === 'idle') this.beat();
  }

  // A closing page has no time to wait for an answer, and may be a reload: hence the beacon, and grace.
  // A leave that gets lost is made good by the end of the lease.
  leave({ closing = false } = {}) {
    this.end();
    if (!closing) return this.command('POST', 'leave', () => ({})).catch(() => {});
    const { token, session } = this;
    if (token) navigator.sendBeacon(`${this.path}/leave`, JSON.stringify({ token, session, grace: true, seq: this.nextSeq() }));
  }

  end(reason) {
    if (this.ended) return;
    this.life.abort();
    this.stream?.abort();
    for (const timer of [this.beatTimer, this.restTimer]) clearTimeout(timer);
    this.wake?.();
    if (reason) this.on.ended(reason);
  }

  // Says "still here", again and again, as often as the server asks. Joins, if that is news to the server.
  async beat() {
    let wait;
    try {
      const visible = () => ({ visible: !document.hidden });
      const beat = () => { const { active } = this; this.active = false; return { ...visible(), active }; };
      let answer = this.joined && await this.command('POST', '/v1/heartbeats', beat);
      if (answer && answer.sessions[0].state === 'gone') this.joined = answer = false;
      answer ||= await this.command('POST', 'join', () => ({ ...this.own, ...visible() }));
      this.joined = true;
      wait = answer.heartbeat_ms;
    } catch (problem) {
      if (problem.final) this.end(problem.message);
      wait = Math.max(problem.retryMs ?? 0, 2000 + 2000 * Math.random());
    }
    clearTimeout(this.beatTimer);
    if (!this.ended) this.beatTimer = setTimeout(() => this.beat(), wait);
  }

  // A hidden tab stays present, but stops watching: over HTTP/1.1 a browser allows six connections to a host for
  // all tabs together, and six streams would leave none for heartbeats. The cursor makes up for it later.
  look() {
    clearTimeout(this.restTimer);
    this.resting = false;
    if (!document.hidden) return this.wake?.();
    this.restTimer = setTimeout(() => { this.resting = true; this.stream?.abort(); }, REST_MS);
  }

  async run() {
    while (!this.ended) {
      this.on.line('connecting');
      await this.beat();
      let pause;
      try {
        if (this.joined && !this.ended) pause = await this.watch();
      } catch (problem) {
        if (problem.final) this.end(problem.message);
        pause = problem.retryMs;
      }
      if (this.ended) return;
      pause ??= Math.min(this.retryMs * 2 ** this.failures++, BACKOFF_MAX_MS) * (0.5 + Math.random() / 2);
      this.on.line(this.resting ? 'resting' : 'reconnecting', Date.now() + pause);
      await new Promise((wake) => { this.wake = wake; setTimeout(() => this.resting || wake(), pause); });
    }
  }

  // Reads the stream to its end. Gives how long to stay away, if the server said so.
  async watch() {
    const stream = this.stream = new AbortController();
    let watchdog, bye;
    const feed = () => { clearTimeout(watchdog); watchdog = setTimeout(() => stream.abort(), WATCHDOG_MS); };
    try {
      feed();
      const headers = this.cursor && { 'Last-Event-ID': this.cursor };
      const response = await this.call('GET', `${this.path}/events`, { headers, signal: stream.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = frameParser((frame) => { feed(); bye ??= this.take(frame); });
      for (;;) {
        const { done, value } = await reader.read();
        if (done || bye || this.ended) return bye;
        parse(value);
      }
    } finally {
      clearTimeout(watchdog);
      stream.abort();
    }
  }

  take({ event, id, data, retry, raw }) {
    if (this.ended) return;
    this.on.frame(raw);
    if (Number(retry)) this.retryMs = Number(retry);
    if (data === undefined) return;
    const body = JSON.parse(data);
    if (event === 'bye') {
      if (body.reason === 'token_expired') this.token = null;
      return body.retry_ms;
    }
    if (event === 'snapshot') this.members = new Map(body.members.map((member) => [member.id, member]));
    if (event === 'diff') {
      for (const { id } of body.left) this.members.delete(id);
      for (const member of [...body.joined, ...body.updated]) this.members.set(member.id, member);
      const kicked = body.left.some(({ id, reason }) => id === this.user && reason === 'kicked');
      if (kicked) return this.end('You were removed from the room.');
    }
    if (id) this.cursor = id;
    this.failures = 0;
    this.on.line(body.stale ? 'stale' : 'live');
    if (body.count !== undefined) this.on.roster(this.members, body.count);
  }

  // Commands of a session go one after the other, so that none overtakes another; `body` is asked for when its turn comes.
  command(method, target, body) {
    const path = target[0] === '/' ? target : `${this.path}/${target}`;
    const sent = this.queue.then(() => {
      if (this.ended && target !== 'leave') throw new Error('left');
      return this.call(method, path, { body: { session: this.session, ...body(), seq: this.nextSeq() } });
    });
    this.queue = sent.catch(() => {});
    return sent.then((response) => response.json());
  }

  async call(method, path, { body, headers, signal = AbortSignal.timeout(CALL_MS) }, again = false) {
    this.token ??= await this.getToken();
    const response = await fetch(path, {
      method, signal, cache: 'no-store', keepalive: path.endsWith('/leave'), body: body && JSON.stringify(body),
      headers: { ...headers, Authorization: `Bearer ${this.token}`, ...body && { 'Content-Type': 'application/json' } },
    });
    if (response.status === 401 && !again) {
      this.token = null;
      return this.call(method, path, { body, headers, signal }, true);
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

// ---- Part two: the page ---------------------------------------------------------------------------------------

const FRAMES_MAX = 50;
const FRAME_CHARS_MAX = 2000;
const TYPING_MS = 2500;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const me = query.get('user') || remembered(localStorage, 'headcount.user', () => `guest-${uuid().slice(0, 8)}`);
const rows = new Map();
const order = new Intl.Collator().compare;
let presence = null;
let release = () => {};
let typingTimer, countdown;

function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // Not a secure context: version 4 by hand.
  bytes[6] = bytes[6] & 0x0f | 0x40;
  bytes[8] = bytes[8] & 0x3f | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
}

function remembered(storage, key, make) {
  if (!storage.getItem(key)) storage.setItem(key, make());
  return storage.getItem(key);
}

// One session per tab and user, kept over a reload. A duplicated tab has a copy of sessionStorage, but cannot have the
// lock. Half a second is for the page that a reload replaces. Without locks (no secure context) every load is a new session.
async function claimSession() {
  const key = `headcount.session.${me}`;
  for (let wait = 500; navigator.locks; sessionStorage.removeItem(key)) {
    const id = remembered(sessionStorage, key, uuid);
    const held = await new Promise((resolve) => {
      const hold = () => new Promise((done) => resolve(done));
      navigator.locks.request(`headcount.${id}`, { signal: AbortSignal.timeout(wait) }, hold).catch(() => resolve(null));
    });
    if (held) { release = held; return id; }
  }
  return uuid();
}

// Never goes back, so that a late leave of this page does not undo the join of the next one in this tab.
function nextSeq() {
  const seq = 1 + Number(sessionStorage.getItem('headcount.seq'));
  sessionStorage.setItem('headcount.seq', seq);
  return seq;
}

async function getToken() {
  const response = await fetch('/dev/token', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, signal: AbortSignal.timeout(CALL_MS),
    body: JSON.stringify({ user: me, name: $('name').value.trim() }),
  });
  if (!response.ok) throw await problemOf(response);
  return (await response.json()).token;
}

async function enter() {
  presence = null;
  const room = $('room').value;
  if (!query.has('user')) localStorage.setItem('headcount.name', $('name').value.trim());
  else query.set('name', $('name').value.trim());
  query.set('room', room);
  history.replaceState(null, '', `?${query}`);
  $('problem').textContent = '';
  $('here').textContent = room;
  $('status').value = sessionStorage.getItem('headcount.status') ?? 'online';
  $('again').href = location.href;
  show(true);
  drawRoster(new Map());
  drawLine('connecting');
  const session = await claimSession();
  const own = { status: $('status').value, state: {} };
  const on = { roster: drawRoster, line: drawLine, frame: drawFrame, ended: exit };
  presence = new Presence({ user: me, room, session, nextSeq, getToken, own, on });
}

function exit(problem = '') {
  presence = null;
  release();
  clearInterval(countdown);
  clearTimeout(typingTimer);
  for (const key of ['room', 'name']) query.delete(key);
  history.replaceState(null, '', query.size ? `?${query}` : location.pathname);
  document.title = 'headcount';
  $('problem').textContent = problem;
  $('typing').value = '';
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
  for (const [id, { item }] of rows) {
    if (!members.has(id)) { item.remove(); rows.delete(id); }
  }
  const before = (a, b) => (b.id === me) - (a.id === me) || order(a.name, b.name) || order(a.id, b.id);
  [...members.values()].sort(before).forEach((member, index) => {
    if (!rows.has(member.id)) rows.set(member.id, { item: element('li', '') });
    const row = rows.get(member.id);
    if (row.member !== member) drawMember(row.item, member);
    row.member = member;
    if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
  });
  const text = count === null ? '' : `${count} here`;
  if ($('count').textContent !== text) $('count').textContent = text;
  $('more').textContent = count > members.size ? `and ${count - members.size} more` : '';
  document.title = count === null ? 'headcount' : `(${count}) ${$('here').textContent} · headcount`;
  const guest = ['Ada', 'Grace', 'Edsger', 'Barbara', 'Alan'].find((name) => !members.has(name.toLowerCase())) ?? 'Donald';
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

function drawLine(state, until) {
  const seconds = () => Math.max(0, Math.ceil((until - Date.now()) / 1000));
  const texts = {
    connecting: () => 'connecting…',
    live: () => 'live',
    stale: () => 'stale: the server cannot reach its database just now',
    reconnecting: () => `reconnecting in ${seconds()} s`,
    resting: () => 'resting while this tab is hidden',
  };
  const draw = () => { $('line').textContent = texts[state](); };
  clearInterval(countdown);
  if (state === 'reconnecting') countdown = setInterval(draw, 250);
  if (state === 'resting') document.title = `${$('here').textContent} · headcount`;
  $('line').dataset.state = state;
  draw();
}

function drawFrame(raw) {
  const cut = raw.length - FRAME_CHARS_MAX;
  const item = element('li', '');
  const text = cut > 0 ? `${raw.slice(0, FRAME_CHARS_MAX)}… and ${cut} more characters` : raw;
  item.append(element('time', '', new Date().toLocaleTimeString()), element('pre', '', text));
  $('frames').prepend(item);
  $('frames').children[FRAMES_MAX]?.remove();
}

function setTyping(typing) {
  clearTimeout(typingTimer);
  if (!presence) return;
  if (typing) typingTimer = setTimeout(() => setTyping(false), TYPING_MS);
  if (typing !== Boolean(presence.own.state.typing)) presence.update({ state: typing ? { typing } : {} });
}

$('name').value = query.get('name') ?? query.get('user') ?? localStorage.getItem('headcount.name') ?? '';
$('room').value = query.get('room') ?? 'lobby';
$('join').addEventListener('submit', (event) => { event.preventDefault(); enter(); });
$('leave').addEventListener('click', () => { if (presence) { presence.leave(); exit(); } });
$('status').addEventListener('change', ({ target }) => {
  sessionStorage.setItem('headcount.status', target.value);
  presence?.update({ status: target.value });
});
$('typing').addEventListener('input', ({ target }) => setTyping(target.value !== ''));
$('typing').addEventListener('blur', () => setTyping(false));
for (const button of document.querySelectorAll('[data-room]')) {
  button.addEventListener('click', () => { $('room').value = button.dataset.room; });
}
for (const kind of ['pointerdown', 'pointermove', 'keydown', 'wheel']) {
  addEventListener(kind, () => presence?.touch(), { passive: true });
}
addEventListener('pagehide', () => { presence?.leave({ closing: true }); release(); });
addEventListener('pageshow', ({ persisted }) => { if (persisted && presence) enter(); });

// A link that says who comes, or where a known name goes, is as good as a filled form.
if ($('name').value && (query.has('name') || query.has('room'))) $('join').requestSubmit();
else $('name').focus();
