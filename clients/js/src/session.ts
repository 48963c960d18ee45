// The session's id and the number of its last call. Kept over a reload, and not shared with a copy of the tab: the page
// takes them out of sessionStorage when it begins and puts them back when it goes, so that a tab which is duplicated
// while it lives is copied without them. A tab that crashed has a new session; the lease ends the old one.

export interface Session {
  id: string;
  seq: number;
}

export function takeSession(key: string): Session {
  try {
    const [id, seq] = sessionStorage.getItem(key)!.split(" ");
    sessionStorage.removeItem(key);
    return { id, seq: Number(seq) };
  } catch {
    return newSession(); // nothing there, or no storage for this page
  }
}

export function keepSession(key: string, { id, seq }: Session): void {
  try {
    sessionStorage.setItem(key, `${id} ${seq}`);
  } catch {
    // Then a reload has a new session, and the grace of the leave still makes it silent.
  }
}

export function newSession(): Session {
  return { id: uuid(), seq: 0 };
}

/** Version 4 by hand: `randomUUID` is missing where the page did not come over TLS. */
function uuid(): string {
  const digit = () => (crypto.getRandomValues(new Uint8Array(1))[0] & 15).toString(16);
  return "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, digit);
}
