/** Changes the servers in the configuration file. */
import * as Either from "effect/Either"
import type { FileServer } from "../../config/server.js"
import * as Server from "../../Server.js"
import { editFile } from "../config/editFile.js"

/** Servers are the same if their addresses are, however they are written. */
const address = (server: string | { readonly url: string }): string => {
  const url = typeof server === "string" ? server : server.url
  return Either.match(Server.fromOptions(url, ""), { onLeft: () => url.trim(), onRight: (server) => server.url })
}

type Entry = string | FileServer

const edit = (file: string, change: (servers: ReadonlyArray<Entry>) => ReadonlyArray<Entry> | undefined) =>
  editFile(file, (content, { servers: before = [] }) => {
    const servers = change(before)
    // An empty list would mean none, not even the local one.
    return servers && { ...content, servers: servers.length === 0 ? undefined : servers }
  })

/** Adds a server to the configuration file, which is made where there is none. `false` if it names the server already. */
export const addServer = (file: string, server: FileServer) => {
  const { url, ...rest } = server
  const entry = Object.values(rest).some((value) => value !== undefined) ? server : url
  return edit(file, (servers) =>
    servers.some((other) => address(other) === address(server)) ? undefined : [...servers, entry]
  )
}

/** Removes a server from the configuration file. `false` if it does not name the server. */
export const removeServer = (file: string, url: string) =>
  edit(file, (servers) => {
    const left = servers.filter((other) => address(other) !== address(url))
    return left.length === servers.length ? undefined : left
  })
