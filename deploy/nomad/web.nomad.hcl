# An application under "segue run", which is process 1 of its container.  docs/FLEETS.md explains it.
#
# New configuration, same image: a change of the template below restarts the workers, and the
# allocation stays.  New image: a new allocation beside each old one, and then the old one stops.
#
# How the limits of a stop add up, in seconds from the decision to stop an allocation:
#    0        it is taken out of the service's list (shutdown_delay); all is served
#    5        segue gets SIGTERM, and refuses new connections
#   34        --stop-limit: all workers have ended
#   35        kill_timeout: what is left would be killed.  A client's max_kill_timeout is 30 s unless
#             it is raised there, and limits this one
job "web" {
  type = "service"

  update {
    max_parallel     = 1
    min_healthy_time = "10s"
    auto_revert      = true
  }

  group "web" {
    count = 3

    network {
      # A port of each allocation's own, so that a new one has its place beside the old one.
      port "http" { to = 8080 }
    }

    shutdown_delay = "5s"

    service {
      name = "web"
      port = "http"

      check {
        type     = "http"
        path     = "/health"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "web" {
      driver = "docker"

      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      config {
        image = "web:1"
        ports = ["http"]
        # The image's own entrypoint has limits for "docker stop".
        entrypoint = [
          "segue", "run", "--name", "web", "--bind", "0.0.0.0:8080", "--workers", "2",
          "--env-file", "/local/web.env", "--ready-http", "/health", "--stop-limit", "29", "--",
        ]
        args = ["uvicorn", "app:app", "--fd", "3"]
      }

      template {
        destination = "local/web.env"
        data        = <<-EOT
          GREETING={{ key_or_default "web/greeting" "hello" }}
        EOT

        # It returns when the new workers serve.  If they do not, the old ones go on.
        change_mode = "script"
        change_script {
          command       = "segue"
          args          = ["restart", "--name", "web", "--wait", "serving"]
          timeout       = "60s"
          fail_on_error = false
        }
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
