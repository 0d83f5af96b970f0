import { readdirSync, readFileSync } from "node:fs"

/** CPU of all threads of a process, in microseconds. */
export const cpuOf = ({ pid }) =>
  readdirSync(`/proc/${pid}/task`).reduce((sum, task) => {
    try {
      return sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1000
    } catch {
      // The thread has ended.
      return sum
    }
  }, 0)
