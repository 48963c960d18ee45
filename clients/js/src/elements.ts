// Custom elements. What others chose (names, pictures) is set as text and attributes, never as HTML.
//
//   <headcount-list room="lobby"></headcount-list>       names with a status, and the count
//   <headcount-avatars room="lobby" max="5"></headcount-avatars>
//
// They watch; with the attribute `join` they are in the room as well. Parts to style: count, members, member, name,
// dot (also online, idle, dnd), avatar, more.

import type { Change, Client, Departed, Member, Status, Watch } from "./index.js";

/** What the elements say, for other languages. */
export interface Texts {
  status: Record<Status, string>;
  label(room: string): string;
  count(count: number): string;
  more(count: number): string;
  joined(names: string[]): string;
  left(names: string[]): string;
}

const ENGLISH: Texts = {
  status: { online: "online", idle: "idle", dnd: "do not disturb" },
  label: (room) => `Who is in ${room}`,
  count: (count) => `${count} here`,
  more: (count) => `and ${count} more`,
  joined: (names) => `${names.join(", ")} joined`,
  left: (names) => `${names.join(", ")} left`,
};

/** Names that one announcement reads out. */
const SPOKEN_MAX = 3;

const STYLE = `
:host { display: block }
ul { list-style: none; margin: 0; padding: 0 }
[part~=count], [part~=more] { color: GrayText }
[part~=news] { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
[part~=member] { display: flex; align-items: center; gap: .5em }
[part~=name] { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
[part~=dot] { flex: none; width: .6em; height: .6em; box-sizing: border-box; border-radius: 50%; background: #1a9c6b }
[part~=idle] { background: none; border: .15em solid #b97a08 }
[part~=dnd] { background: linear-gradient(#fff, #fff) center / 60% 20% no-repeat #c93a3a }
:host(headcount-avatars) ul { display: flex; align-items: center }
[part~=avatar] { display: grid; place-items: center; width: 2.25em; height: 2.25em; box-sizing: border-box; border-radius: 50%;
  object-fit: cover; border: 2px solid Canvas; background: #0c6b4c; color: #fff; font-weight: 600; font-size: .9em }
li + li > [part~=avatar] { margin-inline-start: -.5em }
`;

function make<K extends keyof HTMLElementTagNameMap>(tag: K, part: string, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (part) made.setAttribute("part", part);
  made.textContent = text;
  return made;
}

function initials(name: string): string {
  const letters = name.split(/\s+/).map((word) => word.match(/[\p{L}\p{N}]/u)?.[0] ?? "");
  return ((letters.shift() ?? "") + (letters.pop() ?? "")).toUpperCase() || "?";
}

function picture(member: Member): HTMLElement {
  const letters = make("span", "avatar", initials(member.name));
  if (!/^(https:|data:image\/)/.test(member.avatar_url ?? "")) return letters;
  const image = make("img", "avatar");
  image.alt = "";
  image.referrerPolicy = "no-referrer";
  image.onerror = () => image.replaceWith(letters);
  image.src = member.avatar_url!;
  return image;
}

const byName = (a: Member, b: Member) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1);
const names = (members: Departed[]) => members.slice(0, SPOKEN_MAX).flatMap(({ name }) => name ?? []);

/** Registers the elements; they use this client. Call it once. */
export function define(client: Client, texts: Partial<Texts> = {}): void {
  const say = { ...ENGLISH, ...texts };

  abstract class Element extends HTMLElement {
    static observedAttributes = ["room", "join", "max"];
    protected readonly list = make("ul", "members");
    private readonly news = make("p", "news");
    private watched?: Watch;

    constructor() {
      super();
      const shadow = this.attachShadow({ mode: "open" });
      try {
        // Not a <style>, which a strict content security policy would not let through.
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(STYLE);
        shadow.adoptedStyleSheets = [sheet];
      } catch {
        // Unstyled, in a browser from before 2023.
      }
      this.news.setAttribute("role", "status");
      shadow.append(...this.parts(), this.news);
    }

    connectedCallback(): void {
      this.open();
    }
    disconnectedCallback(): void {
      this.watched?.leave();
      this.watched = undefined;
    }
    attributeChangedCallback(name: string): void {
      if (!this.isConnected) return;
      if (name === "max") this.draw(this.watched?.members ?? [], this.watched?.count ?? 0);
      else this.open();
    }

    protected abstract parts(): HTMLElement[];
    protected abstract draw(members: Member[], count: number): void;

    private open(): void {
      this.disconnectedCallback();
      const room = this.getAttribute("room");
      this.draw([], 0);
      if (!room) return;
      this.list.setAttribute("aria-label", this.getAttribute("label") ?? say.label(room));
      this.watched = this.hasAttribute("join") ? client.join(room) : client.watch(room);
      this.watched.on("change", (change) => this.change(change));
    }

    private change({ members, count, joined, left }: Change): void {
      this.draw([...members].sort(byName), count);
      const news = [joined.length && say.joined(names(joined)), left.length && say.left(names(left)), say.count(count)];
      if (joined.length + left.length) this.news.textContent = news.filter(Boolean).join(". ");
    }
  }

  class List extends Element {
    declare private count: HTMLElement; // set by parts(), which the constructor above calls

    protected parts(): HTMLElement[] {
      this.count = make("p", "count");
      return [this.count, this.list];
    }
    protected draw(members: Member[], count: number): void {
      this.count.textContent = say.count(count);
      const rows = members.map((member) => {
        const row = make("li", "member");
        const dot = make("span", `dot ${member.status}`);
        dot.setAttribute("role", "img");
        dot.setAttribute("aria-label", say.status[member.status]);
        row.append(dot, make("bdi", "name", member.name));
        return row;
      });
      if (count > members.length && members.length) rows.push(make("li", "more", say.more(count - members.length)));
      this.list.replaceChildren(...rows);
    }
  }

  class Avatars extends Element {
    protected parts(): HTMLElement[] {
      return [this.list];
    }
    protected draw(members: Member[], count: number): void {
      const shown = members.slice(0, Number(this.getAttribute("max")) || 5);
      const rows = shown.map((member) => {
        const row = make("li", "");
        row.title = member.name;
        row.setAttribute("aria-label", `${member.name}, ${say.status[member.status]}`);
        row.append(picture(member));
        return row;
      });
      if (count > shown.length && shown.length) {
        const more = make("li", "");
        more.setAttribute("aria-label", say.more(count - shown.length));
        more.append(make("span", "avatar more", `+${count - shown.length}`));
        rows.push(more);
      }
      this.list.replaceChildren(...rows);
    }
  }

  customElements.define("headcount-list", List);
  customElements.define("headcount-avatars", Avatars);
}
