// Lines of JSON that come one by one. Entry: [`lines`].

/** Silence for longer means that the connection is lost: an empty line comes every ten seconds. */
const SILENCE_MAX_MS = 30_000;
/** No line of a tap is nearly as long. */
const LINE_MAX = 1_000_000;

/**
 * Calls `each` with every line of the answer to `path`, until it ends or `signal` ends it.
 * Whatever goes wrong, the error is a sentence for people.
 */
export async function lines<T>(
  path: string,
  headers: Record<string, string>,
  signal: AbortSignal,
  begun: () => void,
  each: (line: T) => void,
): Promise<void> {
  const response = await reach(() => fetch(path, { headers, signal }), signal);
  if (response.status === 404) {
    throw new Absent();
  }
  if (!response.ok || !response.body) {
    const body: { error?: string } = await response.json().catch(() => ({}));
    throw new Error(body.error ?? `status ${response.status}`);
  }
  begun();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reach(() => within(reader.read()), signal);
    if (done) {
      return;
    }
    const parts = (rest + value).split('\n');
    rest = parts.pop() ?? '';
    if (rest.length > LINE_MAX) {
      await reader.cancel();
      throw new Error('a line has no end');
    }
    for (const part of parts.filter(Boolean)) {
      each(parsed(part));
    }
  }
}

function parsed<T>(line: string): T {
  try {
    return JSON.parse(line) as T;
  } catch {
    throw new Error('a line makes no sense');
  }
}

/** There is nobody who could answer: this page came by another way than `linkerd dashboard`. */
export class Absent extends Error {}

async function reach<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    if (signal.aborted) {
      throw error;
    }
    throw new Error('the connection is lost. Does linkerd dashboard still run in its terminal?');
  }
}

async function within<T>(read: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('silence')), SILENCE_MAX_MS);
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}
