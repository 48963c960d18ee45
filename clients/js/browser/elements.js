// The custom elements, in a page without a content security policy that could hide what they let through.

import { define } from "/elements.js";

const query = new URLSearchParams(location.search);
for (const element of document.querySelectorAll("headcount-list, headcount-avatars")) {
  element.setAttribute("room", query.get("room"));
}
define(headcount({ token: () => fetch(`/token?user=${query.get("user")}`).then((answer) => answer.text()) }));
