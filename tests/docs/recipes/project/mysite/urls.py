from bank import views
from django.urls import path

urlpatterns = [
    path("who/", views.who),
    path("slow/", views.slow),
    path("echo/", views.echo),
]
