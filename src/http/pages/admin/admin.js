// The operators' page. It asks the service every two seconds, under the server key that was typed in.

const PERIOD_MS = 2000;
const SECONDS = 120; // of the plot
const PAUSE_MAX_S = 10; // after this long unseen, the whole plot is asked for again
const ROOMS = 20;
const MEMBERS = 100;
const LATE_MS = 10_000;
const CALL_MS = 10_000;
const KEY = 'headcount.server_key';
const WIDTH = 1200, HEIGHT = 200;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en');
let key = sessionStorage.getItem(KEY);
let seconds = []; // of the log, oldest first
let timer;
let shown = null; // what the list of people shows, to be asked for again after a kick

async function call(method, path, body) {
  const response = await fetch(path, {
    method, cache: 'no-store', signal: AbortSignal.timeout(CALL_MS),
    headers: { Authorization: `Bearer ${key}`, ...(body && { 'Content-Type': 'application/json' }) },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const text = answer.detail ?? answer.title ?? `The service answered ${response.status}.`;
  throw Object.assign(new Error(text), { refused: response.status === 401 || response.status === 403 });
}

// All that others chose goes through here: as text and attributes, never as HTML.
function element(tag, className = '', ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content); // appended strings are text
  return made;
}

function enter(now) {
  key = now;
  sessionStorage.setItem(KEY, key);
  $('in').hidden = true;
  $('board').hidden = $('out').hidden = false;
  ask();
}

function exit(why = '') {
  clearTimeout(timer);
  key = null;
  seconds = [];
  shown = null;
  sessionStorage.removeItem(KEY);
  $('people').replaceChildren();
  $('found').textContent = $('search').value = $('key').value = '';
  $('refused').textContent = why;
  $('board').hidden = $('out').hidden = true;
  $('in').hidden = false;
  $('key').focus();
}

async function ask() {
  clearTimeout(timer);
  const asked = key;
  try {
    const last = Date.parse(seconds.at(-1)?.at ?? 0);
    const missed = Math.ceil((Date.now() - last) / 1000) + 5; // this clock may be another than the database's
    const wanted = seconds.length === SECONDS && missed <= PAUSE_MAX_S * 2 ? PAUSE_MAX_S * 2 : SECONDS;
    const overview = await call('GET', `/v1/admin/overview?seconds=${wanted}&rooms=${ROOMS}`);
    if (key !== asked) return;
    $('trouble').textContent = '';
    draw(overview);
  } catch (error) {
    if (key !== asked) return;
    if (error.refused) return exit('The service does not take this key.');
    $('trouble').textContent = `No answer: ${error.message} What is shown is of before.`;
  }
  timer = setTimeout(ask, PERIOD_MS);
}

function draw({ now, rooms, members, sessions, fullest, seconds: fresh, sweep, replicas, here }) {
  for (const [id, value] of Object.entries({ rooms, members, sessions, watchers: here.watchers })) {
    $(id).textContent = number.format(value);
  }
  const known = fresh[0].at;
  seconds = [...seconds.filter(({ at }) => at < known), ...fresh].slice(-SECONDS);
  drawPlot();
  drawHealth(sweep, replicas, here);
  $('fullest').replaceChildren(...fullest.map(({ room, count }) => {
    const open = element('button', 'link', room);
    open.type = 'button';
    open.addEventListener('click', () => showRoom(room));
    return row([open], [number.format(count), 'number']);
  }));
  $('no-rooms').textContent = fullest.length ? rooms > fullest.length ? `and ${number.format(rooms - fullest.length)} more` : '' : 'Nobody is anywhere.';
  document.title = `${number.format(members)} here · headcount`;
  $('board').dataset.at = now;
}

function row(...cells) {
  return element('tr', '', ...cells.map(([content, className = '']) => element('td', className, content)));
}

// Joins above the line, leaves below it: the place tells them apart as well as the colour.
function drawPlot() {
  const most = Math.max(1, ...seconds.flatMap(({ joined, left }) => [joined, left]));
  const step = WIDTH / SECONDS, half = HEIGHT / 2;
  const first = SECONDS - seconds.length;
  const bars = (name, up) => seconds.map((second, n) => {
    const height = (second[name] / most) * (half - 4);
    return height && `M${((first + n) * step).toFixed(1)} ${half}h${(step - 2).toFixed(1)}v${(up ? -height : height).toFixed(1)}h${(2 - step).toFixed(1)}z`;
  }).filter(Boolean).join('');
  const shape = (className, d) => {
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('class', className);
    path.setAttribute('d', d);
    return path;
  };
  $('plot').replaceChildren(shape('joined', bars('joined', true)), shape('left', bars('left', false)), shape('axis', `M0 ${half}h${WIDTH}`));
  $('top').textContent = `${number.format(most)}/s`;
  $('bottom').textContent = `${number.format(most)}/s`;
  const sum = (name) => number.format(seconds.reduce((all, second) => all + second[name], 0));
  $('plot-text').textContent = `In the last ${seconds.length} s: ${sum('joined')} joined, ${sum('left')} left, ${sum('updated')} updated.`;
}

function drawHealth(sweep, replicas, here) {
  const age = `${(sweep.age_ms / 1000).toFixed(1)} s ago`;
  const deaf = replicas.filter(({ listening }) => !listening).map(({ name }) => name);
  const late = replicas.filter(({ quiet_ms }) => quiet_ms > LATE_MS).map(({ name }) => name);
  const lines = [
    [sweep.age_ms <= LATE_MS, `Sweep: ${age}`],
    [!sweep.recovering, sweep.recovering ? 'After an outage: departures are being spread' : 'No outage behind us'],
    [!deaf.length, deaf.length ? `Not listening: ${deaf.join(', ')} (changes come within 2 s)` : 'All replicas listen'],
    [!late.length, late.length ? `Silent: ${late.join(', ')}` : 'All replicas speak to the database'],
    [!here.stale, here.stale ? 'This replica shows old rosters' : `Answered by ${here.name}`],
  ];
  $('health').replaceChildren(...lines.map(([good, text]) => {
    const mark = element('span', `mark ${good ? 'good' : 'bad'}`);
    mark.setAttribute('role', 'img');
    mark.setAttribute('aria-label', good ? 'good' : 'look here');
    return element('li', '', mark, text);
  }));
  $('replicas').replaceChildren(...replicas.map(({ name, connections, listening, quiet_ms }) =>
    row([name], [listening ? 'yes' : 'no'], [connections, 'number'], [`${(quiet_ms / 1000).toFixed(1)} s ago`, 'number'])));
}

async function showRoom(room) {
  shown = () => showRoom(room);
  await list(async () => {
    const { members, count } = await call('GET', `/v1/rooms/${encodeURIComponent(room)}?limit=${MEMBERS}`);
    const more = count > members.length ? `, of whom ${members.length} are listed` : '';
    return [`${number.format(count)} in ${room}${more}.`, members.map(({ id, name, status }) => person(id, name, status, [room]))];
  });
  $('who-title').scrollIntoView({ block: 'start' });
}

async function search(text) {
  shown = () => search(text);
  await list(async () => {
    const { users } = await call('GET', `/v1/admin/users?search=${encodeURIComponent(text)}`);
    const entries = users.map(({ id, name, online, status, rooms, last_seen }) =>
      person(id, name, online ? status : `last seen ${last_seen ? new Date(last_seen).toLocaleString() : 'never'}`, rooms));
    return [users.length ? `Found ${users.length}${users.length === 20 ? ', perhaps more' : ''}.` : 'Nobody found.', entries];
  });
}

async function list(find) {
  const asked = shown;
  try {
    const [text, entries] = await find();
    if (shown !== asked) return;
    $('found').textContent = text;
    $('people').replaceChildren(...entries);
  } catch (error) {
    if (error.refused) exit('The service does not take this key.');
    else $('found').textContent = error.message;
  }
}

function person(id, name, status, rooms) {
  const who = element('div', 'who', element('bdi', 'name', name), element('bdi', 'id', id), element('span', 'quiet', status));
  return element('li', '', who, element('div', 'places', ...rooms.map((room) => place(id, name, room))));
}

// The first click asks, the second one does it.
function place(user, name, room) {
  const kick = element('button', 'kick', 'Kick');
  kick.type = 'button';
  kick.setAttribute('aria-label', `Kick ${name} out of ${room}`);
  const calm = () => { kick.textContent = 'Kick'; kick.classList.remove('sure'); };
  kick.addEventListener('blur', calm);
  kick.addEventListener('click', async () => {
    if (!kick.classList.contains('sure')) {
      kick.textContent = 'Really?';
      return kick.classList.add('sure');
    }
    kick.disabled = true;
    try {
      await call('POST', `/v1/rooms/${encodeURIComponent(room)}/kick`, { user });
      await shown?.();
    } catch (error) {
      $('found').textContent = error.message;
      kick.disabled = false;
      calm();
    }
  });
  return element('span', 'place', element('bdi', '', room), kick);
}

$('in').addEventListener('submit', (event) => { event.preventDefault(); enter($('key').value.trim()); });
$('out').addEventListener('click', () => exit());
$('look').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('search').value.trim();
  if (text) search(text);
});
// Nobody looks: nothing is asked.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) clearTimeout(timer);
  else if (key) ask();
});

if (key) enter(key);
else exit();
