// A server for Node.js that keeps connections, on descriptor 3; SIGTERM ends it.
'use strict';
const server = require('node:http').createServer((request, response) => response.end('ok\n'));
server.keepAliveTimeout = 30000;
process.on('SIGTERM', () => server.close());
server.listen({ fd: 3, backlog: 4096 });
