/** What to do about a server that does not answer, for a reader who has not seen the documentation. */

const advices: ReadonlyArray<readonly [problem: RegExp, advice: (url: string) => string]> = [
  [
    /the proxy /,
    (url) =>
      `Correct the address of the proxy (HTTP_PROXY, HTTPS_PROXY, \`proxy\` in the settings), or name ${new URL(url).hostname} in NO_PROXY to go there directly.`
  ],
  [
    /refused the connection/,
    (url) =>
      isLocal(url)
        ? "Nothing listens there. Start the server (`ollama serve`), or correct the port."
        : "Nothing listens there for other machines. Start the server; Ollama listens for others only if OLLAMA_HOST=0.0.0.0 is set where it runs."
  ],
  [/does not resolve/, () => "No machine has this name. Correct the address, or use the machine's IP address."],
  [
    /in time|cannot be reached/,
    (url) =>
      `Check that the machine is on and in this network, and that no firewall blocks port ${new URL(url).port || "443"}.`
  ],
  [
    /key is missing or wrong/,
    (url) => `Give its key: \`aicortex servers remove ${url}\`, then \`aicortex servers add ${url} --api-key\`.`
  ],
  [
    /certificate/,
    () => "Set NODE_EXTRA_CA_CERTS to the file of your authority's certificate, or `ca` in the settings."
  ],
  [/speaks no TLS/, () => "Write http:// instead of https:// in its address."],
  [/did not say within/, () => "It accepts connections but does not answer: it is overloaded or hangs. Restart it."],
  [
    /something else than a list|HTTP 404|HTTP 405/,
    () =>
      "Something else than a model server answers there. Correct the port or the path: OpenAI's API is usually below /v1."
  ]
]

const isLocal = (url: string): boolean => /^(localhost|127\.|\[::1\])/.test(new URL(url).hostname)

export const adviceFor = (url: string, problem: string): string =>
  advices.find(([pattern]) => pattern.test(problem))?.[1](url) ??
  "Look into the log of that server; docs/troubleshooting.md has more."
