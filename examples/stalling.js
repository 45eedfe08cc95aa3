// The stalling server for Node.js: at SIGUSR2 its loop sleeps or computes, for STALL (sleep:1).
//
//     segue run --bind 127.0.0.1:8080 --workers 2 -- node examples/stalling.js
//     kill -USR2 PID    # of a worker, as segue status shows it
'use strict';
const http = require('node:http');

const FIRST_INHERITED = 3;
const [how, seconds] = (process.env.STALL || 'sleep:1').split(':');

function stall() {
  const milliseconds = 1000 * Number(seconds);
  const until = performance.now() + milliseconds;
  if (how === 'sleep') {
    // Nobody ever wakes this: the thread, and with it the loop, sleeps for all of the time.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
  }
  while (performance.now() < until);
}

const server = http.createServer((request, response) => {
  response.setHeader('X-Pid', process.pid);
  response.setHeader('Connection', 'close');
  response.end(`hello from process ${process.pid}\n`);
});
process.on('SIGUSR2', stall);
process.on('SIGTERM', () => server.close());
server.listen({ fd: FIRST_INHERITED, backlog: 4096 });
