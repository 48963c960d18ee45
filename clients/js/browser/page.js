// Joins the room that the address names, as the user that it names, and keeps what happened where a test finds it.

const query = new URLSearchParams(location.search);
const user = query.get("user");
const token = async () => {
  const answer = await fetch(`/token?user=${user}`);
  if (!answer.ok) throw new Error("no token");
  return answer.text();
};
const client = headcount({ token });
const room = query.has("watch") ? client.watch(query.get("room")) : client.join(query.get("room"));
window.test = { client, room, lines: [], returned: 0, made: performance.timeOrigin };
room.on("line", ({ state }) => window.test.lines.push(state));
addEventListener("pageshow", ({ persisted }) => persisted && window.test.returned++);
